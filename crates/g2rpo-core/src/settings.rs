//! Settings: structs whose defaults stand beside their fields, and the domains of numbers.

use crate::error::{Error, Result};

/// A struct of settings: each field with its default, read from configurations by name.
macro_rules! settings {
    (
        $(#[$of_struct:meta])*
        pub struct $name:ident {
            $($(#[$of_field:meta])* pub $field:ident: $type:ty = $default:expr,)+
        }
    ) => {
        $(#[$of_struct])*
        #[derive(Debug, Clone, PartialEq)]
        #[cfg_attr(
            feature = "serde",
            derive(serde::Serialize, serde::Deserialize),
            serde(default, deny_unknown_fields)
        )]
        pub struct $name {
            $($(#[$of_field])* pub $field: $type,)+
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)+ }
            }
        }
    };
}

pub(crate) use settings;

/// Where a number may lie: its least and its largest value, and both as mathematicians write them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Domain(pub(crate) f64, pub(crate) f64, pub(crate) &'static str);

pub(crate) const ANY: Domain = Domain(f64::MIN, f64::MAX, "(-inf, inf)");
pub(crate) const NON_NEGATIVE: Domain = Domain(0.0, f64::MAX, "[0, inf)");
pub(crate) const POSITIVE: Domain = Domain(ABOVE_0, f64::MAX, "(0, inf)");
pub(crate) const AT_LEAST_1: Domain = Domain(1.0, f64::MAX, "[1, inf)");
pub(crate) const SHARE: Domain = Domain(0.0, 1.0, "[0, 1]");
pub(crate) const POSITIVE_SHARE: Domain = Domain(ABOVE_0, 1.0, "(0, 1]");

/// The end of a domain without 0.
pub(crate) const ABOVE_0: f64 = 0f64.next_up();

impl Domain {
    /// Refuses a setting that lies elsewhere, or is NaN.
    pub(crate) fn check(self, name: &'static str, value: f64) -> Result<()> {
        let Self(least, largest, domain) = self;
        if (least..=largest).contains(&value) {
            return Ok(());
        }
        Err(Error::Config {
            name,
            value,
            domain,
        })
    }
}
