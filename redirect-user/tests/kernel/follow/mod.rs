//! Pods that are followed: the maps keep up with addresses and routes that change while a pod is attached.

mod following;
mod lifecycle;
mod local_addresses;

use redirect_testkit::cases;

pub(crate) use self::following::Following;
use crate::{Cases, Needs};

pub(crate) const CASES: &[Cases] = cases! {
    Needs::Iptables => [
        local_addresses::local_addresses_are_followed_as_behind_iptables,
        local_addresses::a_range_of_local_addresses_is_local_as_behind_iptables,
        local_addresses::the_source_shown_follows_the_routes,
        lifecycle::a_pod_attached_later_is_followed_until_its_detach,
        lifecycle::a_failed_refresh_is_reported_once_and_retried,
    ],
};
