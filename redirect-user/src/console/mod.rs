//! The console of every program: its arguments and environment, its terminal, and the formats of a
//! result.

mod env;
mod output;
mod screen;

pub use env::Env;
pub use output::{Format, counted};
pub use screen::Screen;
