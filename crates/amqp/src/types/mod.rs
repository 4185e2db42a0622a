//! AMQP values and performatives under the names of the specification.

mod performative;
mod value;

pub use performative::{
    Attach, Begin, Close, Declare, Declared, DeliveryState, Detach, Discharge, Disposition, End, Flow,
    Modified, Open, Outcome, Performative, ReceiverSettleMode, Role, SaslFrame, SaslInit, SaslMechanisms,
    SaslOutcome, SenderSettleMode, Source, Target, TargetTerminus, TerminusDurability, TerminusExpiryPolicy,
    TransactionalState, Transfer,
};
pub use value::{Array, Described, Error, Fields, Map, Symbol, Value};
