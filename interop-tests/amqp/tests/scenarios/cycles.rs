//! Many accepts, one after the other.

use lockstep_interop_amqp::{Broker, Outcome, text_message, wait_until};

use crate::suite::{Scenario, scenarios};

scenarios![accept_and_close_cycles_do_not_leak];

const CYCLES: usize = 2_000;
/// Cycles on one connection.
const PER_CONNECTION: usize = 100;
/// Cycles after which memory may not grow any more.
const WARM_UP: usize = 400;
/// What memory may grow by after that, in KiB: less than a kilobyte a cycle, which a link that is
/// not let go takes.
const GROWTH_KIB_MAX: u64 = 1_536;

fn accept_and_close_cycles_do_not_leak(s: &Scenario) -> Outcome {
    let broker = s.own_broker()?;
    let queue = s.queue();
    let files = broker.open_files()?;
    cycles(&broker, queue, WARM_UP)?;
    let warm = broker.resident_kib()?;
    cycles(&broker, queue, CYCLES - WARM_UP)?;
    wait_until("all sockets closed", lockstep_interop_amqp::ANSWER, || {
        // Files of the store come and go.
        broker.open_files().ok().filter(|&now| now <= files + 4)
    })?;
    let grown = broker.resident_kib()?.saturating_sub(warm);
    assert!(grown <= GROWTH_KIB_MAX, "{grown} KiB more than after {WARM_UP} cycles ({warm} KiB)");
    assert!(broker.stop()?.success());
    Ok(())
}

fn cycles(broker: &Broker, queue: &str, count: usize) -> Outcome {
    for _ in 0..count / PER_CONNECTION {
        let mut client = broker.connect()?;
        let sender = client.sender(queue)?;
        for cycle in 0..PER_CONNECTION {
            // Every tenth one has a message, so that deliveries are let go too.
            let id = format!("s{}", cycle % 10);
            if cycle % 10 == 0 {
                client.send(sender, text_message("m", Some(&id)))?;
            }
            let link = client.accept(queue, &id, 1)?;
            if cycle % 10 == 0 {
                let delivery = client.receive(link)?;
                client.complete(&delivery)?;
            }
            client.detach(link)?;
        }
        client.close()?;
    }
    Ok(())
}
