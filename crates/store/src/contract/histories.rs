//! Random histories against a model of the rows.

use std::collections::BTreeMap;

use lockstep_model::{CommitNumber, PropertyOverlay, PropertyValue, SequenceNumber};

use super::{Backend, message, queue, rows, session, state};
use crate::{Batch, MessageOverlayRecord};

/// A small generator (xorshift), so that a history is named by its seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// What the rows must be: by kind, entity and number.
type Model = BTreeMap<(u8, u32, u64), String>;

fn random_operation(random: &mut Random, batch: &mut Batch, model: &mut Model) {
    let (entity, number, value) = (random.below(3) as u32, random.below(5), random.below(1_000));
    let (id, sequence_number) = (queue(entity), SequenceNumber(number));
    let name = format!("s{number}");
    match random.below(6) {
        0 => {
            batch.put_message(id, sequence_number, &message(value, None));
            model.insert((2, entity, number), format!("message ({entity}, {number}, {value})"));
        }
        1 => {
            batch.delete_message(id, sequence_number);
            model.remove(&(2, entity, number));
        }
        2 => {
            let mut properties = PropertyOverlay::new();
            properties.set("p", PropertyValue::Text("v".into()));
            let record = MessageOverlayRecord { delivery_count: value as u32, properties };
            batch.put_overlay(id, sequence_number, &record);
            model.insert((3, entity, number), format!("overlay ({entity}, {number}, {value})"));
        }
        3 => {
            batch.delete_overlay(id, sequence_number);
            model.remove(&(3, entity, number));
        }
        4 => {
            batch.put_message_session(id, &session(&name), &state(&vec![0; value as usize]));
            model.insert((1, entity, number), format!("state ({entity}, {name:?}, {value})"));
        }
        _ => {
            batch.delete_message_session(id, &session(&name));
            model.remove(&(1, entity, number));
        }
    }
}

pub(super) fn random_histories_end_in_the_state_of_their_last_commit<B: Backend>() {
    for seed in 1..=5 {
        let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ seed);
        let mut backend = B::create();
        let (mut model, mut histories) = (Model::new(), vec![Model::new()]);
        let (mut commit, mut synced) = (0, 0);
        for _ in 0..60 {
            let mut batch = Batch::new();
            for _ in 0..random.below(8) {
                random_operation(&mut random, &mut batch, &mut model);
            }
            commit += 1;
            backend.store().write(CommitNumber(commit), &batch).expect("written");
            histories.push(model.clone());
            match random.below(20) {
                0..6 => {
                    backend.store().sync(CommitNumber(commit)).expect("synced");
                    synced = commit;
                }
                6 => backend = backend.reopen(),
                7 => {
                    backend = backend.crash();
                    let recovered = backend.store().recovered_commit().0;
                    assert!(
                        (synced..=commit).contains(&recovered),
                        "seed {seed}: {synced} {recovered} {commit}"
                    );
                    histories.truncate(recovered as usize + 1);
                    model = histories[recovered as usize].clone();
                    commit = recovered;
                }
                _ => {}
            }
            assert!(rows(backend.store()).iter().eq(model.values()), "seed {seed}, commit {commit}");
        }
    }
}
