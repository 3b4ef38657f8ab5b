//! Sets of flags that are stored in maps: one word each, and every bit pattern is valid.

/// Defines a set of flags. Each flag gets a constant with that bit alone, and a method that tests
/// it.
macro_rules! flag_set {
    (
        $(#[$doc:meta])*
        $name:ident {
            $($(#[$flag_doc:meta])* $flag:ident = $bit:literal, $has:ident;)+
        }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[repr(transparent)]
        pub struct $name(u32);

        impl $name {
            /// No flag.
            pub const NONE: Self = Self(0);
            $(
                $(#[$flag_doc])*
                pub const $flag: Self = Self(1 << $bit);
            )+

            /// The union of two sets.
            #[must_use]
            pub const fn or(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }

            /// The set as a number, one bit per flag.
            #[must_use]
            pub const fn bits(self) -> u32 {
                self.0
            }

            $(
                $(#[$flag_doc])*
                #[must_use]
                pub const fn $has(self) -> bool {
                    self.0 & Self::$flag.0 != 0
                }
            )+
        }
    };
}

pub(super) use flag_set;
