//! The description and the routes are of one mind.

use super::*;

#[test]
fn every_operation_has_a_name_and_a_summary() {
    let document = openapi();
    for (path, item) in &document.paths.paths {
        let operations = [&item.get, &item.post, &item.put, &item.delete, &item.patch];
        for operation in operations.into_iter().flatten() {
            assert!(operation.summary.is_some(), "an operation of `{path}` does not say what it does");
        }
    }
}
