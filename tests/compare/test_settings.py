"""What cannot be run is refused before anything is trained."""

import numpy as np
import pytest

from pycomp.compare import Dataset, Plan, Settings, load, run, settings_for


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"combined_sparsity": 0.9, "sparsities": (0.5,)}, r"combined_sparsity is 0.9, expected one of .* \(0.5,\)"),
        ({"sparsities": (0.9, 1.5)}, r"sparsities\[1\] is 1.5"),
        ({"hidden": (8, 0)}, r"hidden\[1\] is 0, expected at least 1"),
        ({"hidden": (10, 8)}, r"hidden\[0\] is 10, expected a multiple of 4"),
        ({"hidden": (8, 8), "removed_units": 0.99}, "removed_units is 0.99, which leaves none of 8"),
        ({"batches": ()}, "batches is empty"),
        ({"rounds": 0}, "rounds is 0, expected at least 1"),
        ({"calibration": None}, "calibration is None, expected an integer"),
        ({"test": 0}, "test is 0"),
        ({"temperature": 0.0}, "temperature is 0.0, expected a finite number above 0"),
        ({"temperatures": (1.0, -2.0)}, r"temperatures\[1\] is -2.0"),
        ({"alpha": 1.5}, "alpha is 1.5, expected a number from 0 to 1"),
        ({"seed": -1}, "seed is -1, expected at least 0"),
        ({"seed": 1.5}, "seed is 1.5, expected an integer"),
    ],
)
def test_settings_that_would_fail_later_are_refused(given, message):
    with pytest.raises((TypeError, ValueError), match=message):
        Settings(**given)


def test_plans_that_train_nothing_are_refused():
    with pytest.raises(ValueError, match="epochs is 0, expected at least 1"):
        Plan(epochs=0, rate=0.1)


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("data", ["digits", "fashion-mnist"])
def test_settings_for_each_data_set(data, quick):
    chosen = settings_for(data, quick=quick, seed=7)
    assert (chosen.data, chosen.seed) == (data, 7)


def test_other_names_and_seeds_are_refused():
    with pytest.raises(ValueError, match="data is 'mnist', expected one of 'digits', 'fashion-mnist'"):
        settings_for("mnist")
    with pytest.raises(ValueError, match="name is 'mnist', expected one of 'digits', 'fashion-mnist'"):
        load("mnist")
    with pytest.raises(ValueError, match="seed is -1"):
        settings_for("digits", seed=-1)
    with pytest.raises(TypeError, match=r"seed is 1\.5"):
        settings_for("digits", seed=1.5)


def test_names_in_place_of_what_they_name_are_refused():
    with pytest.raises(TypeError, match="settings is a str, expected a Settings"):
        run("digits", load("digits"))
    with pytest.raises(TypeError, match="data is a str, expected a Dataset"):
        run(Settings(), "digits")


def images(name, pixels):
    x, y = np.zeros((20, pixels), np.float32), np.arange(20) % 10
    return Dataset(name, "", x, y, x, y)


def test_data_that_the_settings_do_not_fit_is_refused_before_training(monkeypatch):
    monkeypatch.setattr("pycomp.compare.methods.train_teacher", lambda study: pytest.fail("was trained"))
    with pytest.raises(ValueError, match=r"settings\.data is 'digits', expected 'fashion-mnist'"):
        run(Settings(), images("fashion-mnist", 784))
    with pytest.raises(ValueError, match="data 'fashion-mnist' has images of 729 pixels, expected a multiple of 4"):
        run(settings_for("fashion-mnist"), images("fashion-mnist", 27 * 27))
