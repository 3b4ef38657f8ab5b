//! Sockets bound to an address, a port, or both.

use redirect_testkit::Dial;

use super::walk::{APP, PROXY, backends, mapped, walk, world, world6};
use crate::{
    Tested,
    harness::{SECOND_V4, SECOND_V6, at},
};

const OWN_V4: &str = "10.77.0.2";
const OWN_V6: &str = "fd00:77::2";

/// Every port is used once, because a used port stays taken for a while.
pub(super) fn a_bound_source_is_kept() -> Tested {
    let from = |dial: Dial, ip, port| dial.from(at(ip, port));
    let late = |dial: Dial, ip| dial.from(at(ip, 0)).late_port();
    let backends = backends("source")?;
    let dials = [
        from(world(), OWN_V4, 0),
        from(world(), OWN_V4, 5601),
        late(world(), OWN_V4),
        from(world(), "0.0.0.0", 5602),
        late(world(), "0.0.0.0"),
        from(world(), SECOND_V4, 0),
        from(world(), SECOND_V4, 5603),
        late(world(), SECOND_V4),
        from(mapped(), OWN_V4, 5604),
        late(mapped(), OWN_V4),
        from(mapped(), SECOND_V4, 0),
    ];
    walk(&backends, APP, "out4:15001", "any-included", dials)?;
    let dials = [
        from(world6(), OWN_V6, 0),
        from(world6(), OWN_V6, 5605),
        late(world6(), OWN_V6),
        from(world6(), "::", 5606),
        late(world6(), "::"),
        from(world6(), SECOND_V6, 0),
        from(world6(), SECOND_V6, 5607),
        from(world6(), "::1", 0),
    ];
    walk(&backends, APP, "out6:15001", "any-included", dials)?;
    let dials = [from(world(), OWN_V4, 5608), late(world(), SECOND_V4)];
    walk(&backends, PROXY, "world4:80", "uid", dials)
}
