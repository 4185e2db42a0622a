//! A whole conversation of an unmodified client, which no rule may cut short.

use super::support::*;
use crate::{Event, SaslCode};

fn conversation() -> Vec<u8> {
    include_str!("client_conversation.txt")
        .lines()
        .filter_map(|line| line.split_once(": "))
        .filter(|(name, _)| !name.starts_with('#'))
        .flat_map(|(_, digits)| {
            (0..digits.len() / 2).map(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).unwrap())
        })
        .collect()
}

/// Answers as a broker would; counts attaches, deliveries, and deliveries given a state.
fn answer(server: &mut Server, counts: &mut [usize; 3]) {
    for event in server.events() {
        match event {
            Event::SaslInit { .. } => server.engine.sasl_outcome(SaslCode::Ok),
            Event::Opened(_) => server.engine.open(None),
            Event::Attach { link, .. } => {
                counts[0] += 1;
                server.engine.accept(link, reply());
                server.engine.set_credit_auto(link, 100);
            }
            Event::Delivery { delivery, .. } => {
                counts[1] += 1;
                server.engine.settle(&[delivery], &accepted(), true);
            }
            Event::Credit { link, drain, .. } => {
                let _ = server.engine.send(link, message(b"x"));
                if drain {
                    server.engine.drained(link);
                }
            }
            Event::Disposed { deliveries, state, .. } => {
                counts[2] += deliveries.len();
                server.engine.settle(&deliveries, &state.unwrap(), true);
            }
            Event::Detached { link, answered, error, .. } => {
                assert!(!answered && error.is_none(), "the client ends its links itself: {error:?}");
                server.engine.detach(link, None);
            }
            _ => {}
        }
    }
}

#[test]
fn a_recorded_client_is_served_to_its_end() {
    for piece_bytes in [1, 100, 100_000] {
        let mut server = Server::new(config());
        let mut counts = [0; 3];
        for piece in conversation().chunks(piece_bytes) {
            server.receive_bytes(piece);
            // Answers let go what came ahead.
            for _ in 0..4 {
                answer(&mut server, &mut counts);
            }
        }
        assert_eq!(counts[..2], [11, 14]);
        assert!(piece_bytes > 100 || counts[2] > 0);
        assert_eq!(last_condition(&server.performatives()), None);
    }
}
