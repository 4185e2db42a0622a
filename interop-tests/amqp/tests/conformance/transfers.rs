//! Transfers (2.6.12 to 2.6.14, 2.7.5, 2.8.7).

use bytes::Bytes;
use lockstep_amqp::types::{Attach, DeliveryState, Outcome as Terminal, ReceiverSettleMode, Role, Transfer};
use lockstep_interop_amqp::{Outcome, receive_and_delete, sender, text_message};

use crate::links::detach;
use crate::suite::Scenario;
use crate::{
    attached, begun, checks, close_condition, complete, first_frame, next_detach, next_disposition,
    next_transfer, receiving, send, sending,
};

checks![conformance_transfers:
    the_first_frame_names_the_delivery_and_later_ones_do_not_contradict_it,
    unsettled_deliveries_have_tags_of_their_own,
    settled_follows_the_mode_of_the_link,
    a_settled_delivery_gets_no_disposition,
    a_frame_that_contradicts_the_first_of_its_delivery_detaches_the_link,
    the_payload_of_an_aborting_frame_is_ignored,
    a_tag_of_more_than_32_bytes_ends_the_connection,
    a_delivery_with_an_empty_tag_and_without_a_format_is_taken,
    an_unsettled_delivery_without_a_tag_detaches_the_link,
    a_resumed_delivery_is_stored_like_any_other,
    a_transfer_asks_for_rcv_settle_mode_second_on_a_link_of_that_mode_only,
    both_rcv_settle_modes_of_a_transfer_are_settled_first,
];

/// 2.6.14, 2.7.5
fn the_first_frame_names_the_delivery_and_later_ones_do_not_contradict_it(s: &Scenario) -> Outcome {
    let mut raw = begun(s)?;
    sending(&mut raw, 0, "s", s.queue())?;
    let message = text_message("x".repeat(150_000), None);
    let mut parts = message.chunks(50_000).peekable();
    let mut transfer = first_frame(0, 0);
    while let Some(part) = parts.next() {
        transfer.more = parts.peek().is_some();
        raw.transfer(0, &transfer, part)?;
        transfer = Transfer { handle: 0, ..Transfer::default() };
    }
    next_disposition(&mut raw)?;
    receiving(&mut raw, 1, "r", s.queue(), 1)?;
    let (first, _) = next_transfer(&mut raw)?;
    assert!(first.delivery_id.is_some() && first.delivery_tag.is_some() && first.more);
    assert_eq!(first.message_format, Some(0));
    loop {
        let (next, _) = next_transfer(&mut raw)?;
        assert!(next.delivery_id.is_none_or(|id| Some(id) == first.delivery_id));
        assert!(next.delivery_tag.is_none() && next.message_format.is_none());
        if !next.more {
            break;
        }
    }
    complete(&mut raw, 0, 0)
}

/// 2.6.12
fn unsettled_deliveries_have_tags_of_their_own(s: &Scenario) -> Outcome {
    let mut raw = begun(s)?;
    sending(&mut raw, 0, "s", s.queue())?;
    for id in 0..10 {
        send(&mut raw, 0, id, &text_message("m", None))?;
    }
    receiving(&mut raw, 1, "r", s.queue(), 10)?;
    let mut tags = std::collections::BTreeSet::new();
    for id in 0..10 {
        let (transfer, _) = next_transfer(&mut raw)?;
        assert_eq!(transfer.delivery_id, Some(id));
        let tag = transfer.delivery_tag.unwrap_or_default();
        assert!(!tag.is_empty() && tag.len() <= 32);
        assert!(tags.insert(tag));
    }
    complete(&mut raw, 0, 9)
}

/// 2.7.3 snd-settle-mode, 2.7.5 settled, rcv-settle-mode
fn settled_follows_the_mode_of_the_link(s: &Scenario) -> Outcome {
    let mut raw = begun(s)?;
    sending(&mut raw, 0, "s", s.queue())?;
    send(&mut raw, 0, 0, &text_message("1", None))?;
    send(&mut raw, 0, 1, &text_message("2", None))?;
    attached(&mut raw, 1, receive_and_delete("settled", s.queue()))?;
    raw.credit(0, 1, 0, 1, false)?;
    let (transfer, _) = next_transfer(&mut raw)?;
    assert_eq!((transfer.settled, transfer.rcv_settle_mode), (Some(true), None));
    receiving(&mut raw, 2, "unsettled", s.queue(), 1)?;
    let (transfer, _) = next_transfer(&mut raw)?;
    assert_ne!(transfer.settled, Some(true));
    assert_eq!(transfer.rcv_settle_mode, None);
    complete(&mut raw, 1, 1)
}

/// 2.6.12, 2.7.5 settled: on any frame.
fn a_settled_delivery_gets_no_disposition(s: &Scenario) -> Outcome {
    let mut raw = begun(s)?;
    sending(&mut raw, 0, "s", s.queue())?;
    let message = text_message("m", None);
    raw.transfer(0, &Transfer { settled: Some(true), ..first_frame(0, 0) }, &message)?;
    raw.transfer(0, &Transfer { settled: Some(true), more: true, ..first_frame(0, 1) }, &message[..4])?;
    raw.transfer(0, &Transfer::default(), &message[4..])?;
    raw.transfer(0, &first_frame(0, 2), &message)?;
    assert_eq!(next_disposition(&mut raw)?.first, 2);
    receiving(&mut raw, 1, "r", s.queue(), 3)?;
    for _ in 0..3 {
        next_transfer(&mut raw)?;
    }
    complete(&mut raw, 0, 2)
}

/// 2.7.5 delivery-id, delivery-tag, message-format
fn a_frame_that_contradicts_the_first_of_its_delivery_detaches_the_link(s: &Scenario) -> Outcome {
    let bare = Transfer::default();
    for next in [
        Transfer { delivery_id: Some(9), ..bare.clone() },
        Transfer { delivery_tag: Some(Bytes::from_static(b"other")), ..bare.clone() },
        Transfer { message_format: Some(0x8001_3700), ..bare },
    ] {
        let mut raw = begun(s)?;
        sending(&mut raw, 0, "s", s.queue())?;
        raw.transfer(0, &Transfer { more: true, ..first_frame(0, 0) }, b"x")?;
        raw.transfer(0, &next, b"y")?;
        assert_eq!(next_detach(&mut raw)?, "amqp:invalid-field", "{next:?}");
    }
    Ok(())
}

/// 2.7.5 aborted
fn the_payload_of_an_aborting_frame_is_ignored(s: &Scenario) -> Outcome {
    let mut raw = begun(s)?;
    sending(&mut raw, 0, "s", s.queue())?;
    let message = text_message("dropped", None);
    raw.transfer(0, &Transfer { more: true, ..first_frame(0, 0) }, &message[..4])?;
    raw.transfer(0, &Transfer { aborted: true, ..Transfer::default() }, &message[4..])?;
    raw.transfer(0, &Transfer { aborted: true, ..first_frame(0, 1) }, &message)?;
    send(&mut raw, 0, 2, &text_message("kept", None))?;
    receiving(&mut raw, 1, "r", s.queue(), 3)?;
    assert!(next_transfer(&mut raw)?.1.ends_with(b"kept"));
    complete(&mut raw, 0, 0)
}

/// 2.8.7
fn a_tag_of_more_than_32_bytes_ends_the_connection(s: &Scenario) -> Outcome {
    let mut raw = begun(s)?;
    sending(&mut raw, 0, "s", s.queue())?;
    let tagged = |bytes| Transfer { delivery_tag: Some(Bytes::from(vec![1; bytes])), ..first_frame(0, 0) };
    raw.transfer(0, &Transfer { aborted: true, ..tagged(32) }, &[])?;
    raw.transfer(0, &tagged(33), &[])?;
    assert_eq!(close_condition(&mut raw)?, "amqp:invalid-field");
    Ok(())
}

/// 2.7.5 delivery-tag
fn an_unsettled_delivery_without_a_tag_detaches_the_link(s: &Scenario) -> Outcome {
    let mut raw = begun(s)?;
    sending(&mut raw, 0, "s", s.queue())?;
    let untagged = Transfer { delivery_tag: None, ..first_frame(0, 0) };
    raw.transfer(0, &untagged, &text_message("m", None))?;
    assert_eq!(next_detach(&mut raw)?, "amqp:invalid-field");
    raw.frame(0, detach(true))?;
    // Of a settled one nobody speaks again.
    sending(&mut raw, 0, "s", s.queue())?;
    let settled = Transfer { delivery_tag: None, settled: Some(true), ..first_frame(0, 1) };
    raw.transfer(0, &settled, &text_message("settled", None))?;
    receiving(&mut raw, 1, "r", s.queue(), 1)?;
    assert!(next_transfer(&mut raw)?.1.ends_with(b"settled"));
    complete(&mut raw, 0, 0)
}

/// 2.7.5 delivery-tag, message-format
fn a_delivery_with_an_empty_tag_and_without_a_format_is_taken(s: &Scenario) -> Outcome {
    let mut raw = begun(s)?;
    sending(&mut raw, 0, "s", s.queue())?;
    let bare = Transfer { delivery_id: Some(0), delivery_tag: Some(Bytes::new()), ..Transfer::default() };
    raw.transfer(0, &bare, &text_message("m", None))?;
    assert_eq!(next_disposition(&mut raw)?.state, Some(DeliveryState::Outcome(Terminal::Accepted)));
    receiving(&mut raw, 1, "r", s.queue(), 1)?;
    next_transfer(&mut raw)?;
    complete(&mut raw, 0, 0)
}

/// 2.6.13, 2.7.5 resume
fn a_resumed_delivery_is_stored_like_any_other(s: &Scenario) -> Outcome {
    let mut raw = begun(s)?;
    sending(&mut raw, 0, "s", s.queue())?;
    raw.transfer(0, &Transfer { resume: true, ..first_frame(0, 0) }, &text_message("again", None))?;
    assert_eq!(next_disposition(&mut raw)?.state, Some(DeliveryState::Outcome(Terminal::Accepted)));
    receiving(&mut raw, 1, "r", s.queue(), 1)?;
    let (transfer, payload) = next_transfer(&mut raw)?;
    assert!(payload.ends_with(b"again") && !transfer.resume);
    complete(&mut raw, 0, 0)
}

/// 2.7.5 rcv-settle-mode
fn a_transfer_asks_for_rcv_settle_mode_second_on_a_link_of_that_mode_only(s: &Scenario) -> Outcome {
    let mut raw = begun(s)?;
    for (mode, condition) in [
        (None, "amqp:invalid-field"),
        (Some(ReceiverSettleMode::First), "amqp:invalid-field"),
        (Some(ReceiverSettleMode::Second), ""),
    ] {
        attached(&mut raw, 0, Attach { rcv_settle_mode: mode, ..sender("s", s.queue()) })?;
        let second = Transfer {
            rcv_settle_mode: Some(ReceiverSettleMode::Second),
            aborted: condition.is_empty(),
            ..first_frame(0, 0)
        };
        raw.transfer(0, &second, &text_message("m", None))?;
        if condition.is_empty() {
            raw.frame(0, detach(true))?;
        }
        assert_eq!(next_detach(&mut raw)?, condition, "{mode:?}");
        if !condition.is_empty() {
            raw.frame(0, detach(true))?;
        }
    }
    Ok(())
}

/// 2.7.5 rcv-settle-mode: what the broker receives it settles with its outcome.
fn both_rcv_settle_modes_of_a_transfer_are_settled_first(s: &Scenario) -> Outcome {
    let mut raw = begun(s)?;
    let mode = Some(ReceiverSettleMode::Second);
    attached(&mut raw, 0, Attach { rcv_settle_mode: mode, ..sender("s", s.queue()) })?;
    for (id, mode) in [(0, ReceiverSettleMode::First), (1, ReceiverSettleMode::Second)] {
        let transfer = Transfer { rcv_settle_mode: Some(mode), ..first_frame(0, id) };
        raw.transfer(0, &transfer, &text_message("m", None))?;
        let told = next_disposition(&mut raw)?;
        assert_eq!((told.role, told.first, told.settled), (Role::Receiver, id, true));
    }
    receiving(&mut raw, 1, "r", s.queue(), 2)?;
    next_transfer(&mut raw)?;
    next_transfer(&mut raw)?;
    complete(&mut raw, 0, 1)
}
