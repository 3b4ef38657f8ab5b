//! What the commands do: input, output, exit codes, and what they leave behind.

fn main() {
    redirect_testkit::probe::intercept();
}
