"""The kinds of trials: one line for each, with what is attacked and how the outcome is judged."""

from __future__ import annotations

from tests.faults.campaign import (
    artefacts,
    bare,
    finishing,
    kills_preparing,
    kills_scorer,
    kills_study,
    kills_trainer,
    limits,
    params_files,
    rows,
    strangers,
    together,
)
from tests.faults.campaign.trials import Kind

WEIGHTS = "weights and metrics, byte for byte but for times, with an undisturbed run's"
LINES = "all prediction lines, but for their seconds, with an undisturbed run's"
FILES = "every file that steps wrote with an undisturbed run's"
STUDY = "base, data, adapters, predictions, tables and figures with an undisturbed run's"
SETS = "the training sets, byte for byte, with an undisturbed run's"
VALUES = "every value that is read with the text that stands there"
ROWS = "good rows with their own text; the damaged one must be in the tables or listed"
SUMS = "one sentence, or tables that add up to the rows that are there"
RAN = "whether the stranger's code left its trace, and how the command ended"

# What is cheap stands first: an early end of the campaign has some of everything then.
KINDS = (
    Kind(
        "params", "params: one to three faults in a study file", VALUES, 4700, params_files.loaded
    ),
    Kind(
        "params-command",
        "params: the same, given to a command",
        "one sentence, or what the command says of the study",
        150,
        params_files.by_command,
    ),
    Kind(
        "params-bombs",
        "params: files that unfold or slow a reader down",
        "one sentence within five seconds of the processor",
        150,
        params_files.bombs,
    ),
    Kind("rows", "rows: one damaged row to train on", ROWS, 1200, rows.training),
    Kind("rows-exam", "rows: one damaged question of an exam", ROWS, 650, rows.exam),
    Kind("rows-parquet", "rows: damaged bytes of a Parquet file", SUMS, 150, rows.parquet),
    Kind(
        "steps", "kills: steps while they write and mark", FILES, 20, finishing.killed_from_scratch
    ),
    Kind(
        "moves", "kills: results on their way aside and back", FILES, 20, finishing.killed_in_a_move
    ),
    Kind(
        "artefacts",
        "artefacts: a file of a finished study, steps of a toy",
        FILES,
        360,
        artefacts.toy,
    ),
    Kind(
        "artefacts-paths",
        "artefacts: a mark with a path that leads out",
        FILES,
        20,
        artefacts.stranger,
    ),
    Kind("scorer", "kills: scoring on this machine", LINES, 10, kills_scorer.here, "items"),
    Kind(
        "scorer-served",
        "kills: scoring through a server, or its server",
        LINES,
        6,
        kills_scorer.served,
    ),
    Kind(
        "trainer", "kills: the trainer of an adapter", WEIGHTS, 10, kills_trainer.adapter, "steps"
    ),
    Kind(
        "trainer-whole",
        "kills: the trainer of all weights",
        WEIGHTS,
        6,
        kills_trainer.whole,
        "steps",
    ),
    Kind(
        "trainer-dpo",
        "kills: the trainer of preferences",
        WEIGHTS,
        4,
        kills_trainer.preferences,
        "steps",
    ),
    Kind(
        "strangers",
        "strangers: a model, an adapter or a template with code",
        RAN,
        40,
        strangers.folders,
    ),
    Kind(
        "strangers-pickle",
        "strangers: a pickle in a sealed checkpoint",
        RAN,
        6,
        strangers.checkpoint,
    ),
    Kind("disk", "full disk: below steps", FILES, 30, limits.disk_of_steps),
    Kind("disk-scorer", "full disk: below predictions", LINES, 10, limits.disk_of_scoring),
    Kind("disk-data", "full disk: below the training set", SETS, 10, limits.disk_of_preparing),
    Kind("disk-trainer", "full disk: below a stage", WEIGHTS, 6, limits.disk_of_training),
    Kind("memory-scorer", "memory: a scorer with little", LINES, 10, limits.memory_of_scoring),
    Kind("bare", "surroundings: bare and strange ones", FILES, 26, bare.surroundings),
    Kind("bare-output", "surroundings: nobody reads what is printed", FILES, 6, bare.closed_output),
    Kind(
        "together", "together: 06 in 32 papermill runs on one folder", FILES, 2, together.one_folder
    ),
    Kind(
        "study", "kills: a real study, its runner, kernel or trainer", STUDY, 20, kills_study.trial
    ),
    Kind("ranks", "kills: one of two ranks", WEIGHTS, 4, kills_trainer.ranks),
    Kind(
        "artefacts-study", "artefacts: a file of a real study", STUDY, 20, artefacts.finished_study
    ),
    Kind(
        "memory", "memory: a step of a real study with little", STUDY, 8, limits.memory_of_a_study
    ),
    Kind(
        "data-text", "kills: 100,000 texts in ten shards", SETS, 3, kills_preparing.text, "shards"
    ),
    Kind(
        "data-rows", "kills: 100,000 rows of one source", SETS, 2, kills_preparing.rows, "sources"
    ),
    Kind(
        "together-copies", "together: 06 of eight studies at once", STUDY, 1, together.a_folder_each
    ),
)
