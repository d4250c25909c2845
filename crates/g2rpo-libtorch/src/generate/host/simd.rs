//! Functions compiled for the vector instructions at hand.

/// Compiles functions twice: as they are, and for processors with AVX2 and FMA, which are taken
/// where they are found at run time. (Other architectures have their vector instructions in the
/// baseline.)
///
/// The bodies are inlined into both forms. What they call must be `#[inline(always)]`, or it stays
/// in its plain form.
macro_rules! vectorised {
    ($(
        $(#[$attribute:meta])*
        $visibility:vis fn $name:ident $(<$life:lifetime>)? (
            $($argument:ident: $type:ty),* $(,)?
        ) $(-> $result:ty)? $body:block
    )*) => {$(
        $(#[$attribute])*
        $visibility fn $name $(<$life>)? ($($argument: $type),*) $(-> $result)? {
            #[inline(always)]
            fn plain $(<$life>)? ($($argument: $type),*) $(-> $result)? $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma")]
                fn wide $(<$life>)? ($($argument: $type),*) $(-> $result)? {
                    plain($($argument),*)
                }
                if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                    #[allow(
                        unsafe_code,
                        reason = "calling a function compiled for instructions found one line above"
                    )]
                    // SAFETY: the processor has the features that `wide` is compiled for.
                    return unsafe { wide($($argument),*) };
                }
            }
            plain($($argument),*)
        }
    )*};
}

pub(super) use vectorised;
