"""The patient of a question, as far as its stem tells."""

import pytest

from sm70lib.benchmarks import patients
from sm70lib.benchmarks.patients import ADULT, CHILD, OLD


@pytest.mark.parametrize(
    ("stem", "age", "sex"),
    (
        (
            "A 23-year-old pregnant woman at 22 weeks gestation",
            ADULT,
            "female",
        ),
        ("A 67 year old man with transitional cell carcinoma", OLD, "male"),
        ("A 3-month-old baby died suddenly at night while asleep", CHILD, None),
        ("A previously healthy 17-year-old girl is brought by her father", CHILD, "female"),
        ("An 18 y/o male presents", ADULT, "male"),
        ("A 64-year-old African American gentleman. His 30-year-old wife", ADULT, "male"),
        ("A one-day-old male is evaluated. His 30-year-old mother", CHILD, "male"),
        ("A newborn boy is delivered; his 32-year-old mother is well", CHILD, "male"),
        ("A middle-aged woman presents with fatigue", None, "female"),
        ("Which drug is the treatment of choice in women with anemia?", None, None),
        ("The half-life is 300-years old", None, None),
        ("Does aspirin help men?", None, None),
        ("", None, None),
    ),
)
def test_age_and_sex_are_read_where_the_patient_is_introduced(stem, age, sex):
    assert patients.patient(stem) == {"patient_age": age, "patient_sex": sex}
