//! A small transparent forwarder.
