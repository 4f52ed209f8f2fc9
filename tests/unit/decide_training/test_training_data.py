"""Data that is fetched for Trainings: one volume for all that ask for the same."""

from __future__ import annotations

import json
from typing import Any

import pytest

from modelyard.plan import Ref
from modelyard.resources.meta import JOB, PVC, TRAINING
from support.build import NS
from support.trainings import Yard, add_ready_source, condition, job_ref, run, status, tabular
from support.world import finish_job, jobs_of

SOURCE = {"dataset": {"source": {"sourceRef": "hub", "repo": "org/rows", "revision": "main"}, "format": "CSV"}}
FETCHED = json.dumps({"result": "done", "resolvedRevision": "c0ffee", "bytes": 9, "files": 1, "digest": "sha256:ab"})


@pytest.fixture
def world() -> Yard:
    made = Yard()
    add_ready_source(made)
    return made


def put(world: Yard, name: str = "t", **spec: Any) -> None:
    world.put(TRAINING, tabular(name, **{**SOURCE, **spec}))
    run(world, name)


def volumes(world: Yard) -> list[Ref]:
    return [r for r in world.objects if r.kind == PVC and r.name.startswith("data-")]


def owners(world: Yard) -> list[str]:
    (volume,) = volumes(world)
    return [o["name"] for o in world.objects[volume]["metadata"]["ownerReferences"]]


def fetch(world: Yard, **how: Any) -> None:
    for job in jobs_of(world):
        if job.name.startswith("fetch-"):
            finish_job(world, job, **{"message": FETCHED, **how})


def test_fetched_once_and_shared(world: Yard) -> None:
    put(world)
    put(world, "u")
    assert (status(world)["phase"], status(world)["reason"]) == ("Preparing", "Downloading")
    assert owners(world) == ["t", "u"]
    (job,) = jobs_of(world)
    arguments = world.objects[job]["spec"]["template"]["spec"]["containers"][0]["args"]
    assert "huggingface://org/rows" in arguments
    assert "--options=repoType=DATASET" in arguments
    fetch(world)
    run(world)
    run(world, "u")
    (entry,) = status(world)["inputs"]
    assert (entry["phase"], entry["path"], entry["resolvedRevision"]) == ("Ready", "data", "c0ffee")
    assert job_ref(1, "t") in world.objects
    assert job_ref(1, "u") in world.objects


def test_other_content_is_another_volume(world: Yard) -> None:
    put(world)
    put(world, "u", dataset={"source": {"sourceRef": "hub", "repo": "org/rows", "revision": "v2"}})
    assert len(volumes(world)) == 2


def test_a_part_of_a_data_set_is_its_folder(world: Yard) -> None:
    source = {"sourceRef": "hub", "repo": "org/rows", "subset": "en/news"}
    put(world, dataset={"source": source})
    put(world, "u", dataset={"source": {**source, "include": ["*.csv", "train/"]}})
    chosen = {
        argument
        for job in jobs_of(world)
        for argument in world.objects[job]["spec"]["template"]["spec"]["containers"][0]["args"]
        if "include" in argument
    }
    assert chosen == {"--options=include=en/news/", "--options=include=en/news/*.csv,en/news/train/"}


def test_the_volume_goes_with_its_last_user(world: Yard) -> None:
    put(world)
    put(world, "u")
    fetch(world)
    for name in ("t", "u"):
        run(world, name)
    world.remove(Ref(TRAINING, NS, "t"))
    world.settle()
    assert volumes(world)
    assert not [r for r in world.objects if r.kind == JOB and r.name.startswith("fetch-")], "its Job went with t"
    put(world, "v")
    assert job_ref(1, "v") in world.objects, "what was fetched is on record on the volume"
    for name in ("u", "v"):
        world.remove(Ref(TRAINING, NS, name))
    world.settle()
    assert not volumes(world)


def test_a_download_goes_on_when_the_one_who_began_it_is_deleted(world: Yard) -> None:
    put(world)
    put(world, "u")
    world.remove(Ref(TRAINING, NS, "t"))
    world.settle()
    run(world, "u")
    fetch(world)
    run(world, "u")
    assert job_ref(1, "u") in world.objects


def test_a_download_that_failed_says_why(world: Yard) -> None:
    put(world)
    words = {"result": "failed", "reason": "Unauthorized", "message": "The hub refuses the token.", "retryable": False}
    fetch(world, failed=True, exit_code=64, message=json.dumps(words))
    run(world)
    assert (status(world)["phase"], status(world)["reason"]) == ("Preparing", "Unauthorized")
    assert "The hub refuses the token." in status(world)["message"]
    assert condition(world, "Stalled")[0] == "True"


def test_an_edit_before_the_run_is_committed_fetches_the_other_content(world: Yard) -> None:
    put(world)
    other = {"sourceRef": "hub", "repo": "org/other"}
    world.edit(Ref(TRAINING, NS, "t"), lambda o: o["spec"]["dataset"].update(source=other))
    run(world)
    fetch(world)
    run(world)
    assert job_ref() in world.objects
    assert status(world)["inputs"][0]["repo"] == "org/other"


def test_a_strangers_volume_is_left_alone(world: Yard) -> None:
    put(world)
    (volume,) = volumes(world)
    world.edit(volume, lambda o: o["metadata"].update(labels={}))
    run(world)
    assert (status(world)["phase"], status(world)["reason"]) == ("Preparing", "NameTaken")
