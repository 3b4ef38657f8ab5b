//! Pods that are followed: the maps keep up with addresses and routes that change while a pod is attached.

mod following;
mod lifecycle;
mod local_addresses;

use redirect_testkit::cases;

pub(crate) use self::following::Following;
use crate::{Cases, Needs};

pub(crate) const CASES: &[Cases] = cases! {
    Needs::Iptables => [
        local_addresses::own_addresses_are_those_of_now_as_behind_iptables,
        local_addresses::a_range_of_own_addresses_is_own_as_behind_iptables,
        local_addresses::the_source_shown_follows_the_routes,
        lifecycle::what_is_attached_later_is_followed_and_let_go_with_its_end,
        lifecycle::what_cannot_be_refreshed_is_told_once_and_tried_again,
    ],
};
