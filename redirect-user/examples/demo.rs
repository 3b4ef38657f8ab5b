//! The story of the README, happening.

fn main() {
    redirect_testkit::probe::intercept();
}
