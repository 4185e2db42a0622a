//! Random commands, jumps of time, delayed commits and crashes, against a naive
//! [`reference`] of the whole core, which says exactly what each of them must bring about.
//!
//! A failure prints its seed. `LOCKSTEP_MODEL_SEED=<seed>` replays that one and prints every
//! command; `LOCKSTEP_MODEL_SEEDS=<first>-<last>` runs others than CI does.
//!
//! The reference uses types of the core and a switch for its [`defects`](super::super::defects) that
//! only the core's own tests can reach, so it is here and not in a crate of its own.

mod commands;
mod reference;
mod world;

use std::{
    ops::RangeInclusive,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use self::world::{Happened, World};
use crate::core::defects::{self, Defect};

/// Seeds that are run by CI.
const SEEDS: RangeInclusive<u64> = 1..=1_000;
/// Commands of one seed.
const STEPS: u64 = 2_000;
/// Steps within which each defect has to be found.
const STEPS_TO_FIND_MAX: u64 = 100_000;

/// A difference between the core and the reference.
#[derive(Debug)]
struct Found {
    seed: u64,
    step: u64,
    what: String,
}

fn run(seed: u64, is_told: bool) -> Result<Happened, Found> {
    let mut world = World::new(seed);
    world.is_told = is_told;
    for step in 0..STEPS {
        let what = match catch_unwind(AssertUnwindSafe(|| world.step())) {
            Ok(Ok(())) => continue,
            Ok(Err(difference)) => difference,
            Err(panic) => match panic.downcast::<String>() {
                Ok(text) => format!("a panic: {text}"),
                Err(_) => "a panic".into(),
            },
        };
        return Err(Found { seed, step, what });
    }
    Ok(world.happened)
}

/// Runs seeds on as many threads as there are processors; the first that fails, by its number.
fn run_all(seeds: RangeInclusive<u64>) -> Result<Happened, Found> {
    let (next, last) = (AtomicU64::new(*seeds.start()), *seeds.end());
    let outcome = Mutex::new((Happened::default(), None::<Found>));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed > last {
                return;
            }
            let ran = run(seed, false);
            let mut outcome = outcome.lock().unwrap_or_else(PoisonError::into_inner);
            match ran {
                Ok(happened) => outcome.0.add(happened),
                Err(found) => {
                    next.store(last + 1, Ordering::Relaxed);
                    if outcome.1.as_ref().is_none_or(|other| found.seed < other.seed) {
                        outcome.1 = Some(found);
                    }
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, Into::into) {
            scope.spawn(work);
        }
    });
    let (happened, found) = outcome.into_inner().unwrap_or_else(PoisonError::into_inner);
    found.map_or(Ok(happened), Err)
}

fn fail(Found { seed, step, what }: &Found) -> ! {
    panic!("step {step} of seed {seed}; LOCKSTEP_MODEL_SEED={seed} replays it. {what}");
}

fn seeds(text: &str) -> RangeInclusive<u64> {
    let (first, last) = text.split_once('-').expect("LOCKSTEP_MODEL_SEEDS=<first>-<last>");
    let number = |text: &str| text.parse().expect("a number");
    number(first)..=number(last)
}

#[test]
fn the_core_agrees_with_a_naive_model_through_crashes() {
    if let Ok(seed) = std::env::var("LOCKSTEP_MODEL_SEED") {
        if let Err(found) = run(seed.parse().expect("a number"), true) {
            fail(&found);
        }
        return;
    }
    let seeds = std::env::var("LOCKSTEP_MODEL_SEEDS").map_or(SEEDS, |text| seeds(&text));
    let count = seeds.clone().count() as u64;
    match run_all(seeds) {
        Err(found) => fail(&found),
        Ok(happened) => {
            println!("{} steps: {happened:?}", count * STEPS);
            let Happened { deliveries, deferred, duplicates, activated, crashes } = happened;
            for (what, times) in
                [deliveries, deferred * 4, duplicates * 4, activated * 4, crashes].iter().enumerate()
            {
                assert!(*times >= count, "the test did something: {what} of {happened:?}");
            }
        }
    }
}

#[test]
fn every_seeded_defect_is_found() {
    for defect in Defect::ALL {
        let found = defects::with(Some(defect), || {
            (1..=STEPS_TO_FIND_MAX / STEPS).find_map(|seed| run(seed, false).err())
        });
        let Some(Found { seed, step, what }) = found else {
            panic!("{defect:?} is not found in {STEPS_TO_FIND_MAX} steps");
        };
        let first_line = what.lines().next().unwrap_or_default();
        println!("{defect:?} after {} steps: {first_line}", (seed - 1) * STEPS + step + 1);
    }
}
