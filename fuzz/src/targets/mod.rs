//! The targets by name.

mod administration;
mod attach;
mod config;
mod engine;
mod frames;
mod messages;
mod model;
mod pair;
mod requests;
mod values;

/// Names as in `fuzz/corpus`.
pub(crate) const ALL: &[(&str, fn(&[u8]))] = &[
    ("framer", frames::framer),
    ("hot", frames::hot),
    ("cold", frames::cold),
    ("sasl", frames::sasl),
    ("guard", values::guard),
    ("message", messages::message),
    ("engine_server", engine::server),
    ("engine_client", engine::client),
    ("pair", pair::pair),
    ("attach", attach::attach),
    ("cbs", requests::cbs),
    ("sas_token", requests::sas_token),
    ("sasl_plain", requests::sasl_plain),
    ("management", requests::management),
    ("administration", administration::administration),
    ("config_toml", config::toml),
    ("config_emulator", config::emulator),
];
