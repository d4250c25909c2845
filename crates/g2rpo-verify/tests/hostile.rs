//! Inputs that make other graders hang or run out of memory: each answered within 50 ms of
//! processor time and 64 MiB, in the unoptimised profile too.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use g2rpo_verify::{
    CalculatorMarks, Extraction, Gsm8k, Gsm8kExtraction, MathVerifier, MultipleChoice, Verifier,
};

struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

#[allow(
    unsafe_code,
    reason = "an allocator that counts can only be written with the unsafe trait; it forwards every call unchanged"
)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let held = HELD.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(held, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Nanoseconds that this thread has run; load on the machine does not count.
fn thread_time() -> u128 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let ran = stat.split(' ').next().and_then(|n| n.parse().ok());
    ran.unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.map_or(0, |d| d.as_nanos())
    })
}

fn nested(open: &str, inner: &str, close: &str, depth: usize) -> String {
    format!("{}{inner}{}", open.repeat(depth), close.repeat(depth))
}

/// Answers, each to be put into a box and to stand alone.
fn answers() -> Vec<(&'static str, String)> {
    let planes: String = (0..=16u32)
        .flat_map(|plane| {
            (0..60).filter_map(move |i| char::from_u32(plane * 0x10000 + 0x21 + i * 97))
        })
        .collect();
    vec![
        ("tower", "7^{7^{7^7}}".into()),
        ("tall tower", nested("9^{", "9", "}", 80)),
        ("flat tower", vec!["9"; 500].join("^")),
        (
            "tower of brackets",
            "2^{(2^{(2^{(2^{(2^{(2^{99})})})})})}".into(),
        ),
        ("tower of integers", "2003^{2002^{2001}}".into()),
        ("huge exponent", format!("2^{{{}}}", "9".repeat(3000))),
        (
            "negative huge exponent",
            format!("2^{{-{}}}", "9".repeat(3000)),
        ),
        ("tiny and huge", "10^{-1000000}+10^{1000000}".into()),
        ("scientific exponent", "1e999999999".into()),
        ("scientific exponents", vec!["1e99999"; 300].join("+")),
        ("factorial", "999999999!".into()),
        ("factorial of a factorial", "((100!)!)!".into()),
        ("many factorials", vec!["5999!"; 300].join("+")),
        ("binomial", "\\binom{999999999}{499999999}".into()),
        (
            "many binomials",
            vec!["\\binom{12000}{6000}"; 100].join("+"),
        ),
        (
            "combinations",
            "C(999999999,499999999)+999999999P499999999".into(),
        ),
        ("nested combinations", nested("C(", "9,4", ",2)", 90)),
        ("calls of one argument", nested("C(", "x", ")", 90)),
        ("prescripts", nested("{}_{", "9", "}C_2", 90)),
        (
            "many digits in a base",
            format!("{}_{{16}}", "1A".repeat(1900)),
        ),
        ("letters without a base", "1A".repeat(1000)),
        ("gcds", vec!["\\gcd(2^{60000}-1,3^{40000}-1)"; 60].join("+")),
        ("logarithm", "\\log_{2} 2^{65000}".into()),
        ("logarithms", vec!["\\log_{1.0001} 10^{900}"; 80].join("+")),
        ("nested fractions", nested("\\frac{1}{1+", "1", "}", 500)),
        ("nested roots", nested("\\sqrt{1+", "2", "}", 90)),
        (
            "many roots",
            (2..700)
                .map(|n| format!("\\sqrt{{{n}}}"))
                .collect::<Vec<_>>()
                .join("+"),
        ),
        (
            "inverse functions with signs",
            "\\pm tm*\\pm \\arctan \\arctan 1".into(),
        ),
        ("nested functions", nested("\\sin(", "x", ")", 90)),
        (
            "many functions",
            vec!["\\sin x\\cos y\\tan z"; 120].join("+"),
        ),
        (
            "inverse functions",
            vec!["\\arcsin\\arctan\\ln x"; 100].join("+"),
        ),
        ("open braces", "{".repeat(100_000)),
        ("nested braces", nested("{", "1", "}", 2000)),
        ("nested parentheses", nested("(", "1", ")", 2000)),
        ("left parentheses", nested("\\left(", "1", "\\right)", 200)),
        ("nested bars", nested("|", "x", "|", 1500)),
        ("nested sets", nested("\\{1,", "2", "\\}", 500)),
        ("product of letters", "ab".repeat(2000)),
        ("long product of letters", "xyz".repeat(7000)),
        ("long sum", vec!["x"; 1900].join("+")),
        ("unary minuses", format!("{}1", "-".repeat(3000))),
        ("double signs", vec!["\\pm 1"; 700].join(",")),
        ("nested double signs", nested("\\{\\pm ", "1", ",2\\}", 120)),
        (
            "a long list",
            (0..1300)
                .map(|i| i.to_string())
                .collect::<Vec<_>>()
                .join(","),
        ),
        (
            "a list of roots",
            (0..400)
                .map(|i| format!("\\sqrt{i}"))
                .collect::<Vec<_>>()
                .join(","),
        ),
        (
            "huge matrix",
            format!(
                "\\begin{{pmatrix}}{}\\end{{pmatrix}}",
                vec!["1&2&3&4\\\\"; 200].concat()
            ),
        ),
        ("many intervals", vec!["(1,2)"; 280].join("\\cup")),
        ("many inequalities", vec!["x"; 400].join("<")),
        ("many equations", vec!["x"; 900].join("=")),
        ("a megabyte of digits", "7".repeat(1 << 20)),
        (
            "four thousand digits",
            format!("0.{}", "123456789".repeat(450)),
        ),
        ("digits in groups", vec!["123"; 1000].join(",")),
        (
            "repeating block",
            format!("0.\\overline{{{}}}", "142857".repeat(600)),
        ),
        ("polynomial power", "(x+y+z+1)^{100000}".into()),
        ("nested powers", nested("(", "x+1", ")^{99}", 40)),
        (
            "high power of a sum",
            "(\\sqrt2+\\sqrt3+\\sqrt5)^{99999}".into(),
        ),
        ("every plane", planes.clone()),
        ("every plane, long", planes.repeat(300)),
        ("combining marks", format!("5{}", "\u{301}".repeat(1500))),
        ("superscripts", "²₂".repeat(600)),
        ("words", "lorem ipsum ".repeat(300)),
        ("units", format!("5 \\text{{{}}}", "km/h ".repeat(400))),
        ("powers of units", "5\\text{ cm}^{99999999}".into()),
        ("dollars", "$".repeat(4000)),
        ("backslashes", "\\".repeat(4000)),
        ("nuls", "\0".repeat(4000)),
        ("commands", "\\alpha".repeat(650)),
        ("unclosed text", "\\text{".repeat(600)),
        ("ratios", vec!["1"; 1000].join(":")),
    ]
}

/// Whole responses that try the extraction.
fn responses() -> Vec<(&'static str, String)> {
    vec![
        ("open boxes", "\\boxed{".repeat(100_000)),
        ("closed boxes", "\\boxed{1}".repeat(100_000)),
        ("nested boxes", nested("\\boxed{", "1", "}", 100_000)),
        ("joined boxes", "\\boxed{1}, ".repeat(50_000)),
        ("boxes without braces", "\\boxed 5 ".repeat(100_000)),
        ("think tags", "<think></think>".repeat(60_000)),
        ("answer tags", "<answer>".repeat(100_000)),
        ("answer phrases", "the answer is ".repeat(70_000)),
        ("the word answer", "answer".repeat(150_000)),
        ("hashes", "#".repeat(1 << 20)),
        ("a megabyte of digits", "7".repeat(1 << 20)),
        ("a megabyte of dollars", "$".repeat(1 << 20)),
        (
            "dollars after a phrase",
            format!("the answer is {}", "$ ".repeat(400_000)),
        ),
        (
            "open formulas",
            format!("the answer is {}", "\\(".repeat(300_000)),
        ),
        (
            "a megabyte of blanks",
            format!("the answer is {}5", " ".repeat(1 << 20)),
        ),
        ("calculator marks", "<<1+1=2>>".repeat(100_000)),
        ("open calculator marks", "<<".repeat(300_000)),
        (
            "deep calculator mark",
            format!("<<{}=1>>#### 5", "(".repeat(500_000)),
        ),
        ("a megabyte of emoji", "🦀".repeat(1 << 18)),
    ]
}

#[test]
fn hostile_inputs_are_answered_at_once() {
    let math = MathVerifier::default();
    let flexible = MathVerifier {
        extraction: Extraction::flexible(),
        ..MathVerifier::default()
    };
    let gsm8k = Gsm8k {
        extraction: Gsm8kExtraction::Flexible,
        calculator_marks: CalculatorMarks::Required,
    };
    let choice = MultipleChoice::default();
    let references = [
        "5",
        "x^2+1",
        "1,2",
        "(0,1)\\cup(2,3)",
        "\\sqrt{2}+\\pi",
        "A",
    ];
    let mut slowest = (0, String::new());
    let mut biggest = (0, String::new());
    let mut count = 0;
    let mut run = |name: &str, verifier: &dyn Verifier, response: &str, reference: &str| {
        let before = HELD.load(Ordering::Relaxed);
        let mut best = u128::MAX;
        // A first run may page in code, and the machine may be slow for a moment; the work itself repeats exactly.
        for _ in 0..3 {
            PEAK.store(before, Ordering::Relaxed);
            let start = thread_time();
            let _ = verifier.verify(response, reference);
            best = best.min(thread_time() - start);
            if best <= 25_000_000 {
                break;
            }
        }
        let peak = PEAK.load(Ordering::Relaxed).saturating_sub(before);
        if best > slowest.0 {
            slowest = (best, format!("{name} against {reference:.20}"));
        }
        if peak > biggest.0 {
            biggest = (peak, name.to_owned());
        }
        assert!(
            best <= 50_000_000,
            "{name} against {reference:.40}: {best} ns"
        );
        assert!(
            peak <= 64 << 20,
            "{name} against {reference:.40}: {peak} bytes"
        );
    };
    for (name, answer) in answers() {
        let boxed = format!("\\boxed{{{answer}}}");
        for reference in references {
            run(name, &math, &boxed, reference);
        }
        run(name, &math, &boxed, &answer);
        run(name, &math, &boxed, &format!("{answer}+1"));
        run(name, &flexible, &answer, "5");
        run(name, &choice, &boxed, "B");
        run(name, &gsm8k, &answer, "5");
        count += 1;
    }
    for (name, response) in responses() {
        run(name, &math, &response, "5");
        run(name, &flexible, &response, "5");
        run(name, &choice, &response, "B");
        run(name, &gsm8k, &response, "5");
        count += 1;
    }
    println!(
        "{count} inputs; slowest {} µs: {}; biggest {} KiB: {}",
        slowest.0 / 1000,
        slowest.1,
        biggest.0 >> 10,
        biggest.1
    );
    assert!(count >= 40);
}
