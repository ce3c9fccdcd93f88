//! "Did you mean": the nearest of the known names.

/// The nearest of `known`, unless none is near: at most a third of the letters may differ. Of equals the first.
pub(super) fn nearest<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    nearest_by(typed, known, |name| name)
}

/// The same for things that have a name.
pub(super) fn nearest_by<T>(typed: &str, known: impl IntoIterator<Item = T>, name: impl Fn(&T) -> &str) -> Option<T> {
    known
        .into_iter()
        .map(|item| (distance(typed, name(&item)), item))
        .filter(|(distance, item)| *distance <= name(item).chars().count().div_ceil(3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, item)| item)
}

/// Edit distance in which swapping two neighbours counts once (optimal string alignment), without regard to case.
fn distance(left: &str, right: &str) -> usize {
    let left: Vec<char> = left.to_lowercase().chars().take(80).collect();
    let right: Vec<char> = right.to_lowercase().chars().take(80).collect();
    let width = right.len() + 1;
    let mut cost: Vec<usize> = vec![0; (left.len() + 1) * width];
    for i in 0..=left.len() {
        for j in 0..=right.len() {
            let at = |i: usize, j: usize| cost[i * width + j];
            let value = if i == 0 || j == 0 {
                i + j
            } else {
                let swap = i > 1 && j > 1 && left[i - 1] == right[j - 2] && left[i - 2] == right[j - 1];
                let differ = usize::from(left[i - 1] != right[j - 1]);
                let edited = (at(i - 1, j - 1) + differ).min(at(i - 1, j) + 1).min(at(i, j - 1) + 1);
                if swap { edited.min(at(i - 2, j - 2) + 1) } else { edited }
            };
            cost[i * width + j] = value;
        }
    }
    cost[left.len() * width + right.len()]
}

#[cfg(test)]
mod tests {
    use super::{distance, nearest};

    #[test]
    fn a_slip_of_the_finger_is_recognised() {
        let known = ["poll_interval_ms", "kill_names", "model"];
        for (typed, meant) in [
            ("pol_interval_ms", Some("poll_interval_ms")),
            ("kill_name", Some("kill_names")),
            ("modle", Some("model")),
            ("MODEL", Some("model")),
            ("colour", None),
        ] {
            assert_eq!(nearest(typed, known), meant, "{typed}");
        }
    }

    #[test]
    fn distances() {
        for (left, right, expected) in [("", "", 0), ("", "abc", 3), ("ab", "ba", 1), ("kitten", "sitting", 3)] {
            assert_eq!(distance(left, right), expected, "{left} {right}");
        }
    }
}
