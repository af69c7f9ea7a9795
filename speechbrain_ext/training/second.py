"""What a second training would be refused for, before the first is begun.

    python -m speechbrain_ext.training.second FIRST.yaml [--key value] -- SECOND.yaml [--key value]

run.sh asks so where ``--large_margin`` names the second: the first may take days.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from speechbrain_ext.corpora.manifest import read_manifest
from speechbrain_ext.errors import UserError, friendly_exit
from speechbrain_ext.systems.command_line import (
    check_keys,
    read_command_line,
    resolved_settings,
)
from speechbrain_ext.systems.experiment import encoder_part
from speechbrain_ext.systems.settings import STUDENT
from speechbrain_ext.systems.weights import differences
from speechbrain_ext.systems.yaml import make_hparams
from speechbrain_ext.training.first_weights import renamed
from speechbrain_ext.training.identity import check_experiment, check_sources


def check_second(first: Sequence[str], second: Sequence[str]) -> None:
    """Refuse a second training that could not begin with what the first makes.

    Arguments
    ---------
    first, second : sequence of str
        Arguments of train_distill.py. ``--start_from`` of the second is ``--output_folder`` of the
        first.

    Raises
    ------
    UserError
        For settings that cannot be, for speech without labels, which a margin needs, and for
        another network than the first's.
    """
    networks = []
    for arguments in (first, second):
        check_keys(read_command_line(arguments), STUDENT)
        text, tree = resolved_settings(arguments)
        part = make_hparams(arguments[0], encoder_part(text, arguments[0]))
        networks.append(part["embedding_model"].state_dict())
    check_sources(tree, [tree["start_from"]])
    if not read_manifest(tree["train_csv"]).speakers:
        raise UserError(
            f"{tree['train_csv']} has no labelled speech, and the margin of {second[0]} needs "
            "labels: leave --large_margin out, or give labelled speech",
            code="no-labels",
        )
    if different := differences(renamed(networks[0], networks[1]), networks[1]):
        raise UserError(
            f"{second[0]} cannot begin with the weights of {first[0]}, which is of another "
            f"network: {different[0]} ({len(different)} differences in all): choose the YAML of "
            "its network, and give the sizes of --student_args by --large_margin_args as well",
            code="other-network",
        )
    check_experiment(tree["output_folder"], text, {})


if __name__ == "__main__":
    with friendly_exit():
        split = sys.argv.index("--")
        check_second(sys.argv[1:split], sys.argv[split + 1 :])
