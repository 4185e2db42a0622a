//! Single frames of the recordings in `../../../dotnet`, to be sent again.

use std::path::Path;

use bytes::Bytes;
use lockstep_amqp::{
    codec::{self, Frame, FrameKind},
    types::{DeliveryState, Disposition, Performative},
};
use lockstep_interop_amqp::{Failed, Outcome};

/// The first frame of a recording that `wanted` takes.
pub(crate) fn recorded<T>(file: &str, wanted: impl Fn(&Performative, &Bytes) -> Option<T>) -> Outcome<T> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../dotnet").join(file);
    for line in std::fs::read_to_string(path)?.lines() {
        let line: serde_json::Value =
            serde_json::from_str(line).map_err(|error| Failed::new(error.to_string()))?;
        let digits = line["hex"].as_str().unwrap_or_default();
        let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16);
        let bytes: Result<Bytes, _> = (0..digits.len()).step_by(2).map(byte).collect();
        let bytes = bytes.map_err(|error| Failed::new(error.to_string()))?;
        // Headers and SASL are no AMQP frames.
        if let Ok(Frame::Amqp { performative, payload, .. }) = codec::decode_frame(bytes, FrameKind::Amqp)
            && let Some(found) = wanted(&performative, &payload)
        {
            return Ok(found);
        }
    }
    Err(Failed::new(format!("{file} has no such frame")))
}

/// The first outcome of a delivery in a recording that `wanted` takes.
pub(crate) fn recorded_state(file: &str, wanted: impl Fn(&DeliveryState) -> bool) -> Outcome<DeliveryState> {
    recorded(file, |performative, _| match performative {
        Performative::Disposition(Disposition { state: Some(state), .. }) => {
            wanted(state).then(|| state.clone())
        }
        _ => None,
    })
}

/// The first request of a recording for an operation.
pub(crate) fn recorded_request(file: &str, operation: &str) -> Outcome<Bytes> {
    let needle = operation.as_bytes();
    recorded(file, |_, payload| {
        payload.windows(needle.len()).any(|part| part == needle).then(|| payload.clone())
    })
}
