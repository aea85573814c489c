from dataclasses import replace

import pytest
from assess_facts import GIB, SOURCE, TARGET

from crossfade.assess.framework import choose
from crossfade.assess.inventory import Demand, MachineFacts
from crossfade.plan.model import Workload

NOBODY = Workload(external_users=False, sla=False)


@pytest.mark.parametrize(
    ("workload", "machine", "demand", "reason"),
    [
        (Workload(external_users=True, sla=False), MachineFacts(), Demand(), "users outside"),
        (Workload(external_users=False, sla=True), MachineFacts(), Demand(), "SLA"),
        (NOBODY, MachineFacts(), Demand(peak_concurrency=7), "up to 7 requests at once wait for 1 slots"),
        (NOBODY, MachineFacts(), Demand(adapters=3), "3 adapters"),
        (NOBODY, MachineFacts((12 * GIB, 12 * GIB)), Demand(), "16.0 GiB of weights do not fit one GPU of 12.0 GiB"),
    ],
)
def test_one_reason_is_enough_to_migrate(workload, machine, demand, reason):
    choice = choose(SOURCE, TARGET, workload, machine, demand)
    assert choice.outcome == "migrate"
    assert [reason in said for said in choice.reasons] == [True]


def test_without_a_reason_and_without_a_measurement_a_person_is_asked():
    assert choose(SOURCE, TARGET, NOBODY, MachineFacts(), Demand()).outcome == "ask"


def test_a_model_that_one_person_uses_stays():
    choice = choose(SOURCE, TARGET, NOBODY, MachineFacts(), Demand(peak_concurrency=1))
    assert choice.outcome == "stay"
    assert "at most 1 requests at once" in choice.reasons[0]


def test_more_slots_on_the_source_serve_more_at_once():
    assert choose(replace(SOURCE, parallel=8), TARGET, NOBODY, MachineFacts(), Demand(peak_concurrency=7)).outcome == "stay"


def test_weights_larger_than_all_gpus_stay_whatever_speaks_for_moving():
    choice = choose(SOURCE, TARGET, Workload(), MachineFacts((8 * GIB, 7 * GIB)), Demand(peak_concurrency=99))
    assert choice.outcome == "stay"
    assert "do not fit the 15.0 GiB of all 2 GPUs" in choice.reasons[0]
