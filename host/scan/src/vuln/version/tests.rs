use proptest::prelude::*;

use super::*;

fn check(scheme: Scheme, table: &str) {
    let mut checked = 0;
    for line in table.lines().filter(|l| !l.starts_with('#') && !l.is_empty()) {
        let [a, op, b] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let expected = match op {
            "lt" => Ordering::Less,
            "eq" => Ordering::Equal,
            "gt" => Ordering::Greater,
            _ => panic!("{line}"),
        };
        assert_eq!(scheme.compare(a, b), expected, "{line}");
        assert_eq!(scheme.compare(b, a), expected.reverse(), "{line}, turned around");
        checked += 1;
    }
    assert!(checked > 30);
}

#[test]
fn debian_as_dpkg_decides() {
    check(Scheme::Debian, include_str!("../../../testdata/debian-versions.txt"));
}

#[test]
fn alpine_as_apk_decides() {
    check(Scheme::Alpine, include_str!("../../../testdata/alpine-versions.txt"));
}

fn version() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "([0-2]:)?[0-2]{1,2}(\\.[0-2]{1,2}){0,2}[a-c~+]{0,2}(_(alpha|rc|p|git)[0-2]?)?(-r?[0-2])?",
        1 => "[0-9a-z.:~+_-]{0,8}",
        1 => "\\PC{0,4}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]
    #[test]
    fn both_are_total_orders(a in version(), b in version(), c in version()) {
        for scheme in [Scheme::Debian, Scheme::Alpine] {
            prop_assert_eq!(scheme.compare(&a, &a), Ordering::Equal);
            prop_assert_eq!(scheme.compare(&a, &b), scheme.compare(&b, &a).reverse());
            let mut sorted = [&a, &b, &c];
            sorted.sort_by(|x, y| scheme.compare(x, y));
            prop_assert_ne!(scheme.compare(sorted[0], sorted[2]), Ordering::Greater, "{:?}", sorted);
            // Equal ones are equal to everything else in the same way.
            if scheme.compare(&a, &b).is_eq() {
                prop_assert_eq!(scheme.compare(&a, &c), scheme.compare(&b, &c));
            }
        }
    }
}
