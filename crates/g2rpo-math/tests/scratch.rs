//! scratch
#[test]
fn scratch() {
    for line in std::fs::read_to_string("/tmp/pairs.txt").unwrap().lines() {
        let (r, a) = line.split_once(" ;; ").unwrap();
        println!("{r:<40} {a:<50} {}", g2rpo_math::compare(a, r));
    }
}
