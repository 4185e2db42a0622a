use std::fmt;

/// Why a scenario did not go on.
#[derive(Clone, PartialEq, Eq)]
pub struct Failed(pub String);

/// What a step of a scenario gives.
pub type Outcome<T = ()> = Result<T, Failed>;

impl Failed {
    /// With a text for whoever reads the run.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failed {}

impl From<std::io::Error> for Failed {
    fn from(error: std::io::Error) -> Self {
        Self(format!("input or output failed: {error}"))
    }
}

impl From<lockstep_amqp::message::MessageError> for Failed {
    fn from(error: lockstep_amqp::message::MessageError) -> Self {
        Self(format!("a message of the broker cannot be read: {error}"))
    }
}

impl From<lockstep_amqp::Violation> for Failed {
    fn from(violation: lockstep_amqp::Violation) -> Self {
        Self(format!("the broker broke the specification: {violation}"))
    }
}
