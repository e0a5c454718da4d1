//! Quantities: the canonical form means the same.
#![no_main]

use knarr_api::quantity::Quantity;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(quantity) = text.parse::<Quantity>() else { return };
    let again: Quantity = quantity.to_string().parse().expect("the canonical form is one");
    // Without a suffix an amount is a decimal one, whatever it was.
    let settled: Quantity = again.to_string().parse().expect("the canonical form is one");
    assert_eq!((settled, settled.to_string()), (again, again.to_string()));
    let _ = (quantity + again, quantity - again, quantity.value(), quantity.milli_value(), quantity.rounded_to_milli());
});
