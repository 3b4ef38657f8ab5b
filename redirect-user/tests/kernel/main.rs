//! What the programs do to real sockets, against real servers.

fn main() {
    redirect_testkit::probe::intercept();
}
