//! Enums whose variants each have one word, in the configuration, in JSON and in messages.

/// Defines such an enum. It must derive `Copy` and `Serialize`.
macro_rules! words {
    (
        $(#[$meta:meta])*
        pub enum $Name:ident {
            $($(#[$attribute:meta])* $Variant:ident = $word:literal,)*
        }
    ) => {
        $(#[$meta])*
        pub enum $Name {
            $($(#[$attribute])* #[serde(rename = $word)] $Variant,)*
        }

        impl $Name {
            /// All of them.
            pub const ALL: [Self; [$($word),*].len()] = [$(Self::$Variant),*];

            /// The word for it.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$Variant => $word,)*
                }
            }

            /// The one with this `word`.
            pub fn of(word: &str) -> Option<Self> {
                Self::ALL.into_iter().find(|one| one.as_str() == word)
            }
        }

        impl std::fmt::Display for $Name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}

pub(crate) use words;
