"""What cannot work, said before anything is done: models, their sizes, the machine, the data, the disk.

`plan` asks for what the machine (machine.py) says, which takes no time; `check` is for `plan --check` and
comes before the first stage of a run. What is done is not looked at; nets that were found to work are
remembered (tried.py), all else is looked at each time.
"""

from __future__ import annotations

from smelt.verbs.checks import disk, featurenets, startweights, trials
from smelt.verbs.checks.asked import Asked, Found, refuse
from smelt.verbs.checks.auditcheck import about_audits
from smelt.verbs.checks.datacheck import about_data
from smelt.verbs.checks.machine import about_machine


def check(asked: Asked) -> Found:
    """Everything; RecipeError with all that cannot work. For runs and `plan --check`."""
    refuse(
        [*about_machine(asked), *about_data(asked), *about_audits(asked)]
    )  # what is known at once, before nets are built
    found = trials.about_models(asked)
    begin, fit = startweights.about_weights(asked), startweights.about_fit(asked)
    lines = featurenets.about_features(asked)
    found.dims = lines.dims
    need = disk.estimate(asked, found.values, found.dims)
    found.problems += [*begin.problems, *fit.problems, *lines.problems, *need.problem()]
    found.notes += [*begin.notes, *fit.notes, *lines.notes, need.words()]
    refuse(found.problems)
    return found


def after_index(asked: Asked, found: Found) -> None:
    """What could not be known before the catalogue was there; `found`: what `check` found before the run."""
    need = disk.estimate(asked, found.values, found.dims).problem()
    refuse([*about_data(asked), *about_audits(asked), *need], "nothing was trained")
