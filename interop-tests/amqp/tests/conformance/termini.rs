//! Sources and targets (3.5).

use lockstep_amqp::types::{
    Attach, Described, Fields, Outcome as Terminal, Performative, Source, Symbol, Target, TargetTerminus,
    TerminusDurability, TerminusExpiryPolicy, Value,
};
use lockstep_interop_amqp::{Outcome, receiver, sender, with_filter};

use crate::suite::Scenario;
use crate::{attached, begun, checks, close_condition};

checks![conformance_termini:
    a_terminus_comes_back_with_its_address_and_what_was_asked,
    a_filter_that_is_not_in_effect_does_not_come_back,
    distribution_mode_move_is_served_and_copy_refused,
    a_dynamic_terminus_is_refused_whatever_its_address,
    a_terminus_of_another_type_ends_the_connection,
];

fn source_of(attach: &Attach) -> Source {
    attach.source.clone().unwrap_or_default()
}

/// 3.5.3, 3.5.4, 3.5.5, 3.5.6: durability and expiry have no effect, and come back as they were.
fn a_terminus_comes_back_with_its_address_and_what_was_asked(s: &Scenario) -> Outcome {
    let mut raw = begun(s)?;
    let asked = Source {
        durable: TerminusDurability::UnsettledState,
        expiry_policy: TerminusExpiryPolicy::Never,
        timeout: 30,
        default_outcome: Some(Terminal::Released),
        outcomes: vec![Symbol::new("amqp:accepted:list"), Symbol::new("amqp:rejected:list")],
        capabilities: vec![Symbol::new("queue")],
        ..source_of(&receiver("r", s.queue()))
    };
    let answer = attached(&mut raw, 0, Attach { source: Some(asked.clone()), ..receiver("r", s.queue()) })?;
    assert_eq!(answer.source, Some(asked));
    let asked = TargetTerminus::Target(Target {
        address: Some(Value::string(s.queue())),
        durable: TerminusDurability::Configuration,
        expiry_policy: TerminusExpiryPolicy::LinkDetach,
        timeout: 1,
        ..Target::default()
    });
    let answer = attached(&mut raw, 1, Attach { target: Some(asked.clone()), ..sender("s", s.queue()) })?;
    assert_eq!(answer.target, Some(asked));
    Ok(())
}

/// 3.5.3 filter, 3.5.8: a name that means nothing here, described as the standard wants it or not.
fn a_filter_that_is_not_in_effect_does_not_come_back(s: &Scenario) -> Outcome {
    let mut raw = begun(s)?;
    let described = Described { descriptor: Value::symbol("example:unheard-of"), value: Value::string("x") };
    let values = [Value::Described(Box::new(described)), Value::string("x"), Value::Null];
    for (handle, value) in (0..).zip(values) {
        let name = format!("r{handle}");
        let attach = with_filter(receiver(&name, s.queue()), "example:unheard-of", value);
        let answer = attached(&mut raw, handle, attach)?;
        assert!(answer.source.is_some());
        let kept = source_of(&answer).filter.unwrap_or_default();
        assert_eq!(kept, Fields::default());
    }
    Ok(())
}

/// 3.5.2, 3.5.7
fn distribution_mode_move_is_served_and_copy_refused(s: &Scenario) -> Outcome {
    let mut raw = begun(s)?;
    for (handle, mode, granted) in [(0, "move", true), (1, "copy", false)] {
        let source =
            Source { distribution_mode: Some(Symbol::new(mode)), ..source_of(&receiver("r", s.queue())) };
        let answer =
            attached(&mut raw, handle, Attach { source: Some(source), ..receiver(mode, s.queue()) })?;
        assert_eq!(answer.source.is_some(), granted, "{mode}");
        if granted {
            assert_eq!(source_of(&answer).distribution_mode, Some(Symbol::new(mode)));
        }
    }
    assert_eq!(crate::next_detach(&mut raw)?, "com.microsoft:argument-error");
    Ok(())
}

/// 3.5.3, 3.5.4 dynamic: with an address, which the standard forbids, or without.
fn a_dynamic_terminus_is_refused_whatever_its_address(s: &Scenario) -> Outcome {
    let mut raw = begun(s)?;
    for (handle, address) in [(0, None), (1, Some(Value::string(s.queue())))] {
        let source = Source { dynamic: true, address, ..Source::default() };
        let name = format!("d{handle}");
        let answer =
            attached(&mut raw, handle, Attach { source: Some(source), ..receiver(&name, s.queue()) })?;
        assert!(answer.source.is_none());
        assert_eq!(crate::next_detach(&mut raw)?, "amqp:not-implemented");
    }
    Ok(())
}

/// 2.7.3 source, 3.5.3: an accepted where the source has to be.
fn a_terminus_of_another_type_ends_the_connection(s: &Scenario) -> Outcome {
    let mut raw = begun(s)?;
    // attach: name, handle, role, no modes, source
    let body = [0x00, 0x53, 0x12, 0xc0, 12, 6, 0xa1, 1, b'x', 0x43, 0x41, 0x40, 0x40, 0x00, 0x53, 0x24, 0x45];
    let size = u8::try_from(body.len() + 8).unwrap_or(0);
    raw.write(&[0, 0, 0, size, 2, 0, 0, 0])?;
    raw.write(&body)?;
    let before = raw.expect("close", |_, performative, _| match performative {
        Performative::Close(close) => Some(crate::condition(close.error.as_ref())),
        _ => None,
    })?;
    assert_eq!(before, "amqp:invalid-field");
    assert_eq!(close_condition(&mut raw)?, "");
    Ok(())
}
