//! What the broker does not let a peer have, and that others feel nothing of the attempt. The
//! attacks are those of `make attacks`, small.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::Duration,
};

use bytes::BytesMut;
use lockstep_amqp::{
    codec,
    types::{DeliveryState, Detach, Outcome as Terminal, Performative},
};
use lockstep_interop_amqp::{
    ANSWER, Broker, Client, Failed, Home, Outcome, Outgoing, RawConnection, SASL_HEADER,
    attacks::{ATTACKS, Attack, Ground, Watcher, small_socket},
    receiver, text_message, wait_until,
};

use crate::suite::{Scenario, scenarios};

scenarios![
    a_quiet_client_is_served_under_every_attack,
    one_link_too_many_is_refused_and_the_others_stay,
    a_client_that_never_reads_is_given_up,
    a_client_that_falls_silent_is_closed_with_a_reason,
    over_the_memory_budget_sends_are_refused_until_it_is_free_again,
    strangers_do_not_keep_a_client_with_a_key_out,
];

/// Rounds of the quiet client under each attack.
const ROUNDS: usize = 25;

/// Tells an attacker when it is over, and hears when it is ready.
struct Told {
    ready: mpsc::Sender<()>,
    over: AtomicBool,
}

impl Watcher for Told {
    fn ready(&self) {
        // Nobody may be waiting any more.
        let _ = self.ready.send(());
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }
}

fn a_quiet_client_is_served_under_every_attack(s: &Scenario) -> Outcome {
    let broker = s.own_broker()?;
    let mut quiet = broker.connect()?;
    for attack in ATTACKS {
        under(attack, &broker, &mut quiet)
            .map_err(|failed| Failed::new(format!("{}: {failed}", attack.name)))?;
    }
    quiet.close()
}

fn under(attack: &Attack, broker: &Broker, quiet: &mut Client) -> Outcome {
    let (ready, is_ready) = mpsc::channel();
    let told = Told { ready, over: AtomicBool::new(false) };
    let ground = Ground {
        address: broker.address(),
        home: Home::find_in(broker.home().directory())?,
        queue: "attacked".to_owned(),
        message_sessions: "attacked.message_sessions".to_owned(),
    };
    std::thread::scope(|scope| {
        let attacker = scope.spawn(|| (attack.run)(&ground, attack.small, &told));
        let served = is_ready
            .recv_timeout(ANSWER)
            .map_err(|_| Failed::new("the attacker does not get ready"))
            .and_then(|()| serve(quiet));
        told.over.store(true, Ordering::Relaxed);
        let attacked = attacker.join().unwrap_or_else(|_| Err(Failed::new("the attacker panicked")));
        served.and(attacked)
    })?;
    // And afterwards.
    serve(quiet)
}

fn serve(quiet: &mut Client) -> Outcome {
    let sender = quiet.sender("quiet")?;
    let link = quiet.receiver("quiet", 1)?;
    for _ in 0..ROUNDS {
        quiet.send(sender, text_message("m", None))?;
        let delivery = quiet.receive(link)?;
        quiet.complete(&delivery)?;
        quiet.credit(link, 1)?;
    }
    quiet.detach(link)?;
    quiet.detach(sender)
}

fn one_link_too_many_is_refused_and_the_others_stay(s: &Scenario) -> Outcome {
    const LINKS_MAX: u32 = 4_999;
    let queue = s.queue();
    let mut raw = s.broker().connect_raw()?;
    raw.handshake(s.broker().home())?;
    let mut out = BytesMut::new();
    for handle in 0..=LINKS_MAX {
        let attach = lockstep_amqp::types::Attach { handle, ..receiver(&format!("r{handle}"), queue) };
        codec::encode_frame(&mut out, 0, &Performative::Attach(Box::new(attach)));
    }
    raw.write(&out)?;
    let condition = raw.expect("the refusal", |_, performative, _| match performative {
        Performative::Detach(detach) => detach.error.as_ref().map(|error| error.condition.to_string()),
        _ => None,
    })?;
    assert_eq!(condition, "amqp:resource-limit-exceeded");
    // One of the others goes, and there is room for another one.
    raw.frame(0, Performative::Detach(Detach { handle: LINKS_MAX, closed: true, error: None }))?;
    raw.frame(0, Performative::Detach(Detach { handle: 7, closed: true, error: None }))?;
    let is_clean = raw.expect("the answer to the detach", |_, performative, _| match performative {
        Performative::Detach(detach) => Some(detach.error.is_none()),
        _ => None,
    })?;
    assert!(is_clean);
    raw.attach(0, 7, receiver("another", queue))?;
    let is_granted = raw.expect("the attach", |_, performative, _| match performative {
        Performative::Attach(attach) if &*attach.name == "another" => Some(attach.source.is_some()),
        _ => None,
    })?;
    assert!(is_granted, "no room for another link");
    Ok(())
}

/// A broker with `[limits]` of the scenario's own.
fn broker_with(s: &Scenario, limits: &str) -> Outcome<Broker> {
    Broker::start(&Arc::new(s.broker().home().with(&format!("\n[limits]\n{limits}\n"))?))
}

fn a_client_that_never_reads_is_given_up(s: &Scenario) -> Outcome {
    const MESSAGES: usize = 300;
    let queue = s.queue();
    let broker = broker_with(s, "unread_timeout_s = 1")?;
    let mut client = broker.connect()?;
    let sender = client.sender(queue)?;
    let message = Outgoing { body: vec![b'x'; 60_000].into(), ..Outgoing::default() }.encode();
    client.send_all(sender, std::iter::repeat_n(message, MESSAGES))?;
    let before = broker.open_files()?;
    let mut raw = small_socket(broker.address())?;
    raw.handshake(broker.home())?;
    raw.attach(0, 0, receiver("r", queue))?;
    raw.credit(0, 0, 0, u32::MAX >> 1, false)?;
    wait_until("the end of the connection", ANSWER, || {
        broker.open_files().ok().filter(|open| *open <= before)
    })?;
    // What was on its way is there, then nothing more comes.
    raw.read_to_end()?;
    client.close()
}

fn a_client_that_falls_silent_is_closed_with_a_reason(s: &Scenario) -> Outcome {
    let broker = broker_with(s, "idle_timeout_s = 10")?;
    let mut raw = broker.connect_raw()?;
    raw.handshake(broker.home())?;
    let error = raw.expect_end()?;
    assert_eq!(
        error.map(|error| error.condition.to_string()).as_deref(),
        Some("amqp:resource-limit-exceeded")
    );
    Ok(())
}

fn over_the_memory_budget_sends_are_refused_until_it_is_free_again(s: &Scenario) -> Outcome {
    const CONNECTIONS: usize = 300;
    /// A frame of 256 KiB, of which this much comes.
    const PART_BYTES: usize = 200_000;
    let queue = s.queue();
    let broker = broker_with(s, "memory_bytes_max = 16777216\nunread_timeout_s = 60")?;
    let mut client = broker.connect()?;
    let sender = client.sender(queue)?;
    client.send(sender, text_message("before", None))?;
    let mut hoarders = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut raw = broker.connect_raw()?;
        raw.handshake(broker.home())?;
        hoarders.push(raw);
    }
    let mut part = vec![0, 4, 0, 0, 2, 0, 0, 0];
    part.resize(PART_BYTES, 0);
    for raw in &mut hoarders {
        let mut socket = raw.socket()?;
        socket.set_nonblocking(true)?;
        // As much as the socket takes: the broker may have stopped reading.
        let _ = std::io::Write::write(&mut socket, &part);
    }
    let refusal = wait_for_outcome(&mut client, sender, |outcome| match outcome {
        Terminal::Rejected(Some(error)) => Some(error.condition.to_string()),
        _ => None,
    })?;
    assert_eq!(refusal, "com.microsoft:server-busy");
    // Those who hold the memory are cut off, one after the other, though they are still there.
    wait_for_outcome(&mut client, sender, |outcome| matches!(outcome, Terminal::Accepted).then_some(()))?;
    drop(hoarders);
    let link = client.receiver(queue, 1)?;
    assert_eq!(client.receive(link)?.text(), "before");
    client.close()
}

/// Sends until a message has the outcome that is wanted.
fn wait_for_outcome<T>(
    client: &mut Client,
    sender: lockstep_amqp::LinkId,
    wanted: impl Fn(&Terminal) -> Option<T>,
) -> Outcome<T> {
    wait_until("the outcome", 2 * ANSWER, || match client.try_send(sender, text_message("m", None)) {
        Ok(DeliveryState::Outcome(outcome)) => wanted(&outcome).map(Ok),
        Ok(_) => None,
        Err(failed) => Some(Err(failed)),
    })?
}

fn strangers_do_not_keep_a_client_with_a_key_out(s: &Scenario) -> Outcome {
    const CONNECTIONS_MAX: usize = 20;
    const STRANGERS: usize = 3 * CONNECTIONS_MAX;
    let broker = broker_with(s, &format!("connections_count_max = {CONNECTIONS_MAX}"))?;
    let mut strangers = Vec::new();
    for _ in 0..STRANGERS {
        let mut raw = RawConnection::connect(broker.address())?;
        raw.write(&SASL_HEADER)?;
        strangers.push(raw);
    }
    let mut client = broker.connect()?;
    let sender = client.sender(s.queue())?;
    client.send(sender, text_message("m", None))?;
    // The first ones were turned away, long before their time was over.
    for raw in &mut strangers[..CONNECTIONS_MAX] {
        raw.expect_end()?;
    }
    client.nothing_comes(Duration::from_millis(50))?;
    client.close()
}
