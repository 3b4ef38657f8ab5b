//! Connections made through `io_uring`.

use redirect_testkit::Mode;

use super::walk::{APP, PROXY, backends, mapped, to, walk, world, world6};
use crate::Tested;

pub(super) fn io_uring_connects_like_connect() -> Tested {
    let backends = backends("uring")?;
    for mode in [Mode::IoUring, Mode::IoUringPolled] {
        let dials = [world(), mapped()].map(|dial| dial.mode(mode));
        walk(&backends, APP, "out4:15001", "any-included", dials)?;
        let dials = [world6().mode(mode)];
        walk(&backends, APP, "out6:15001", "any-included", dials)?;
        walk(&backends, PROXY, "world4:80", "uid", [world().mode(mode)])?;
        let own = to("10.77.0.2", 8080).mode(mode);
        walk(&backends, APP, "app4:8080", "app-lo-uid", [own.clone()])?;
        walk(&backends, PROXY, "in4:15006", "uid-to-self", [own])?;
        let closed = [to("10.77.0.2", 81).mode(mode)];
        walk(&backends, APP, "ECONNREFUSED", "app-lo-uid", closed)?;
    }
    Ok(())
}
