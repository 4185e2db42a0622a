//! Writing frames. Every performative is padded with nulls to its full field count, since some
//! clients read fields by fixed positions.

use bytes::{BufMut, BytesMut};

use super::encode::{
    encode_value, write_binary, write_bool, write_described_list, write_fields, write_null, write_optional,
    write_string, write_symbol, write_symbol_array, write_symbols, write_ubyte, write_uint, write_ulong,
    write_ushort,
};
use crate::types::{
    Attach, Begin, DeliveryState, Disposition, Error, Flow, Modified, Open, Outcome, Performative,
    ReceiverSettleMode, Role, SaslFrame, SaslInit, SaslOutcome, SenderSettleMode, Source, Symbol, Target,
    TargetTerminus, TerminusDurability, TerminusExpiryPolicy, Transfer,
};

/// Appends a frame with a performative and no payload.
pub fn encode_frame(out: &mut BytesMut, channel: u16, performative: &Performative) {
    if let Performative::Transfer(transfer) = performative {
        return encode_transfer(out, channel, transfer, &[]);
    }
    frame(out, 0, channel, |out| match performative {
        Performative::Open(open) => write_open(out, open),
        Performative::Begin(begin) => write_begin(out, begin),
        Performative::Attach(attach) => write_attach(out, attach),
        Performative::Flow(flow) => write_flow(out, flow),
        Performative::Transfer(transfer) => write_transfer(out, transfer),
        Performative::Disposition(disposition) => write_disposition(out, disposition),
        Performative::Detach(detach) => write_described_list(out, 0x16, 3, |out| {
            write_uint(out, detach.handle);
            write_bool(out, detach.closed);
            write_optional(out, detach.error.as_ref(), write_error);
        }),
        Performative::End(end) => write_described_list(out, 0x17, 1, |out| {
            write_optional(out, end.error.as_ref(), write_error);
        }),
        Performative::Close(close) => write_described_list(out, 0x18, 1, |out| {
            write_optional(out, close.error.as_ref(), write_error);
        }),
    });
}

/// Appends a transfer frame whose payload is the concatenation of `payload`. The caller keeps
/// the whole within the peer's max-frame-size; see [`super::TRANSFER_OVERHEAD_BYTES`].
pub fn encode_transfer(out: &mut BytesMut, channel: u16, transfer: &Transfer, payload: &[&[u8]]) {
    out.reserve(super::TRANSFER_OVERHEAD_BYTES + payload.iter().map(|part| part.len()).sum::<usize>());
    frame(out, 0, channel, |out| {
        write_transfer(out, transfer);
        payload.iter().for_each(|part| out.put_slice(part));
    });
}

/// Appends an AMQP frame without a body.
pub fn encode_heartbeat(out: &mut BytesMut) {
    frame(out, 0, 0, |_| {});
}

/// Appends a SASL frame.
pub fn encode_sasl(out: &mut BytesMut, sasl: &SaslFrame) {
    frame(out, 1, 0, |out| match sasl {
        SaslFrame::Mechanisms(mechanisms) => write_described_list(out, 0x40, 1, |out| {
            // Always an array, even of one: clients index into it.
            write_symbol_array(out, &mechanisms.sasl_server_mechanisms);
        }),
        SaslFrame::Init(SaslInit { mechanism, initial_response, hostname }) => {
            write_described_list(out, 0x41, 3, |out| {
                write_symbol(out, mechanism);
                write_optional(out, initial_response.as_ref(), write_binary);
                write_optional(out, hostname.as_deref(), write_string);
            });
        }
        SaslFrame::Challenge(challenge) => {
            write_described_list(out, 0x42, 1, |out| write_binary(out, challenge));
        }
        SaslFrame::Response(response) => {
            write_described_list(out, 0x43, 1, |out| write_binary(out, response));
        }
        SaslFrame::Outcome(SaslOutcome { code, additional_data }) => {
            write_described_list(out, 0x44, 2, |out| {
                write_ubyte(out, *code);
                write_optional(out, additional_data.as_ref(), write_binary);
            });
        }
    });
}

fn frame(out: &mut BytesMut, frame_type: u8, channel: u16, write: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    out.put_slice(&[0, 0, 0, 0, 2, frame_type]);
    out.put_u16(channel);
    write(out);
    // No frame comes near 4 GiB: payloads are cut to max-frame-size, the rest is small. The size's
    // four bytes were written above.
    let size = u32::try_from(out.len() - start).unwrap_or(u32::MAX);
    out[start..start + 4].copy_from_slice(&size.to_be_bytes());
}

fn write_open(out: &mut BytesMut, open: &Open) {
    write_described_list(out, 0x10, 10, |out| {
        write_string(out, &open.container_id);
        write_optional(out, open.hostname.as_deref(), write_string);
        write_uint(out, open.max_frame_size);
        write_ushort(out, open.channel_max);
        write_optional(out, open.idle_time_out, write_uint);
        write_symbols(out, &open.outgoing_locales);
        write_symbols(out, &open.incoming_locales);
        write_symbols(out, &open.offered_capabilities);
        write_symbols(out, &open.desired_capabilities);
        write_optional(out, open.properties.as_ref(), write_fields);
    });
}

fn write_begin(out: &mut BytesMut, begin: &Begin) {
    write_described_list(out, 0x11, 8, |out| {
        write_optional(out, begin.remote_channel, write_ushort);
        write_uint(out, begin.next_outgoing_id);
        write_uint(out, begin.incoming_window);
        write_uint(out, begin.outgoing_window);
        write_uint(out, begin.handle_max);
        write_symbols(out, &begin.offered_capabilities);
        write_symbols(out, &begin.desired_capabilities);
        write_optional(out, begin.properties.as_ref(), write_fields);
    });
}

fn write_attach(out: &mut BytesMut, attach: &Attach) {
    write_described_list(out, 0x12, 14, |out| {
        write_string(out, &attach.name);
        write_uint(out, attach.handle);
        write_role(out, attach.role);
        write_optional(out, attach.snd_settle_mode, write_sender_settle_mode);
        write_optional(out, attach.rcv_settle_mode, write_receiver_settle_mode);
        write_optional(out, attach.source.as_ref(), write_source);
        write_optional(out, attach.target.as_ref(), write_target);
        // Links are not resumed, so nothing is ever unsettled from before.
        write_null(out);
        write_bool(out, attach.incomplete_unsettled);
        write_optional(out, attach.initial_delivery_count, write_uint);
        write_optional(out, attach.max_message_size, write_ulong);
        write_symbols(out, &attach.offered_capabilities);
        write_symbols(out, &attach.desired_capabilities);
        write_optional(out, attach.properties.as_ref(), write_fields);
    });
}

fn write_flow(out: &mut BytesMut, flow: &Flow) {
    write_described_list(out, 0x13, 11, |out| {
        write_optional(out, flow.next_incoming_id, write_uint);
        write_uint(out, flow.incoming_window);
        write_uint(out, flow.next_outgoing_id);
        write_uint(out, flow.outgoing_window);
        write_optional(out, flow.handle, write_uint);
        write_optional(out, flow.delivery_count, write_uint);
        write_optional(out, flow.link_credit, write_uint);
        write_optional(out, flow.available, write_uint);
        write_bool(out, flow.drain);
        write_bool(out, flow.echo);
        // Properties.
        write_null(out);
    });
}

fn write_transfer(out: &mut BytesMut, transfer: &Transfer) {
    write_described_list(out, 0x14, 11, |out| {
        write_uint(out, transfer.handle);
        write_optional(out, transfer.delivery_id, write_uint);
        write_optional(out, transfer.delivery_tag.as_ref(), write_binary);
        write_optional(out, transfer.message_format, write_uint);
        write_optional(out, transfer.settled, write_bool);
        write_bool(out, transfer.more);
        write_optional(out, transfer.rcv_settle_mode, write_receiver_settle_mode);
        write_optional(out, transfer.state.as_ref(), write_state);
        write_bool(out, transfer.resume);
        write_bool(out, transfer.aborted);
        write_bool(out, transfer.batchable);
    });
}

fn write_disposition(out: &mut BytesMut, disposition: &Disposition) {
    write_described_list(out, 0x15, 6, |out| {
        write_role(out, disposition.role);
        write_uint(out, disposition.first);
        write_optional(out, disposition.last, write_uint);
        write_bool(out, disposition.settled);
        write_optional(out, disposition.state.as_ref(), write_state);
        write_bool(out, disposition.batchable);
    });
}

fn write_role(out: &mut BytesMut, role: Role) {
    write_bool(out, role == Role::Receiver);
}

fn write_sender_settle_mode(out: &mut BytesMut, mode: SenderSettleMode) {
    write_ubyte(
        out,
        match mode {
            SenderSettleMode::Unsettled => 0,
            SenderSettleMode::Settled => 1,
            SenderSettleMode::Mixed => 2,
        },
    );
}

fn write_receiver_settle_mode(out: &mut BytesMut, mode: ReceiverSettleMode) {
    write_ubyte(
        out,
        match mode {
            ReceiverSettleMode::First => 0,
            ReceiverSettleMode::Second => 1,
        },
    );
}

fn write_source(out: &mut BytesMut, source: &Source) {
    write_described_list(out, 0x28, 11, |out| {
        write_optional(out, source.address.as_ref(), encode_value);
        write_durability(out, source.durable);
        write_expiry_policy(out, source.expiry_policy);
        write_uint(out, source.timeout);
        write_bool(out, source.dynamic);
        write_optional(out, source.dynamic_node_properties.as_ref(), write_fields);
        write_optional(out, source.distribution_mode.as_ref(), write_symbol);
        write_optional(out, source.filter.as_ref(), write_fields);
        write_optional(out, source.default_outcome.as_ref(), write_outcome);
        write_symbols(out, &source.outcomes);
        write_symbols(out, &source.capabilities);
    });
}

fn write_target(out: &mut BytesMut, target: &TargetTerminus) {
    match target {
        TargetTerminus::Target(target) => write_plain_target(out, target),
        TargetTerminus::Coordinator(capabilities) => {
            write_described_list(out, 0x30, 1, |out| write_symbols(out, capabilities));
        }
    }
}

fn write_plain_target(out: &mut BytesMut, target: &Target) {
    write_described_list(out, 0x29, 7, |out| {
        write_optional(out, target.address.as_ref(), encode_value);
        write_durability(out, target.durable);
        write_expiry_policy(out, target.expiry_policy);
        write_uint(out, target.timeout);
        write_bool(out, target.dynamic);
        write_optional(out, target.dynamic_node_properties.as_ref(), write_fields);
        write_symbols(out, &target.capabilities);
    });
}

fn write_durability(out: &mut BytesMut, durability: TerminusDurability) {
    write_uint(
        out,
        match durability {
            TerminusDurability::None => 0,
            TerminusDurability::Configuration => 1,
            TerminusDurability::UnsettledState => 2,
        },
    );
}

fn write_expiry_policy(out: &mut BytesMut, policy: TerminusExpiryPolicy) {
    let name = match policy {
        TerminusExpiryPolicy::LinkDetach => "link-detach",
        TerminusExpiryPolicy::SessionEnd => "session-end",
        TerminusExpiryPolicy::ConnectionClose => "connection-close",
        TerminusExpiryPolicy::Never => "never",
    };
    write_symbol(out, &Symbol::new(name));
}

/// Always of three elements: clients read all three by position.
fn write_error(out: &mut BytesMut, error: &Error) {
    write_described_list(out, 0x1d, 3, |out| {
        write_symbol(out, &error.condition);
        write_optional(out, error.description.as_deref(), write_string);
        write_optional(out, error.info.as_ref(), write_fields);
    });
}

fn write_outcome(out: &mut BytesMut, outcome: &Outcome) {
    match outcome {
        Outcome::Accepted => write_described_list(out, 0x24, 0, |_| {}),
        Outcome::Rejected(error) => write_described_list(out, 0x25, 1, |out| {
            write_optional(out, error.as_ref(), write_error);
        }),
        Outcome::Released => write_described_list(out, 0x26, 0, |_| {}),
        Outcome::Modified(Modified { delivery_failed, undeliverable_here, message_annotations }) => {
            write_described_list(out, 0x27, 3, |out| {
                write_optional(out, *delivery_failed, write_bool);
                write_optional(out, *undeliverable_here, write_bool);
                write_optional(out, message_annotations.as_ref(), write_fields);
            });
        }
    }
}

fn write_state(out: &mut BytesMut, state: &DeliveryState) {
    match state {
        DeliveryState::Received { section_number, section_offset } => {
            write_described_list(out, 0x23, 2, |out| {
                write_uint(out, *section_number);
                write_ulong(out, *section_offset);
            });
        }
        DeliveryState::Outcome(outcome) => write_outcome(out, outcome),
        DeliveryState::Declared(declared) => {
            write_described_list(out, 0x33, 1, |out| write_binary(out, &declared.txn_id));
        }
        DeliveryState::Transactional(state) => write_described_list(out, 0x34, 2, |out| {
            write_binary(out, &state.txn_id);
            write_optional(out, state.outcome.as_ref(), write_outcome);
        }),
        DeliveryState::Other(value) => encode_value(out, value),
    }
}
