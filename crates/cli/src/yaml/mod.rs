//! YAML as kubectl writes and reads it.

mod read;
mod write;

pub use read::parse_all;
pub use write::to_string;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    proptest::proptest! {
        #[test]
        fn what_is_written_is_read_back(text in "[ -~\n\tä\u{85}\u{2028}\u{2029}\u{1f600}]{0,120}", key in "[a-z0-9 :#'-]{0,12}") {
            let value = json!({ key: [{"a": text.clone()}, text] });
            let written = to_string(&value);
            let read = parse_all(&written).map_err(|e| proptest::test_runner::TestCaseError::fail(format!("{e}\n{written}")))?;
            proptest::prop_assert_eq!(&read[0], &value, "{}", written);
        }
    }
}
