//! A section of a recipe, each key with its type, its default and what it means in one place.

/// Declares the struct of a section with its defaults. What is written of a key here stands in recipes as well.
macro_rules! section {
    (
        $(#[doc = $about:literal])+
        pub struct $section:ident {
            $(
                $(#[doc = $doc:literal])+
                $(#[serde($reading:meta)])?
                pub $key:ident: $kind:ty = $default:expr,
            )+
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $section {
            $(
                $(#[doc = $doc])+
                $(#[serde($reading)])?
                pub $key: $kind,
            )+
        }

        impl Default for $section {
            fn default() -> Self {
                Self { $($key: $default),+ }
            }
        }

        impl $section {
            /// The keys in their order, and what each means.
            pub(super) const KEYS: &[(&str, &str)] = &[$((stringify!($key), concat!($($doc),+))),+];
        }
    };
}
pub(super) use section;
