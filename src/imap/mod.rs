//! THE SERVER. One [`Client`] is a cloneable handle around a channel of typed [`Request`]s; tasks own the connections.

pub mod answered;
pub mod body_structure;
pub mod change;
pub mod command;
pub mod connect;
pub mod dialect;
pub mod dispatcher;
pub mod fetch;
pub mod flight;
pub mod frame;
pub mod gate;
pub mod halves;
pub mod line;
pub mod machine;
pub mod options;
pub mod outbox;
pub mod pace;
pub mod parse;
pub mod pool;
pub mod refusal;
pub mod request;
pub mod response;
pub mod response_code;
pub mod sasl;
pub mod search;
pub mod server;
pub mod session;
pub mod setup;
#[cfg(test)]
mod testing;
pub mod token;
pub mod transport;
pub mod untagged;
pub mod value;

pub use options::{Credentials, Options, Tls};
pub use pace::Speed;
pub use pool::Client;
pub use request::{Answer, Answers, Class, Command, Done, FetchItem, Request, Target};
