"""One epoch of each experiment against the same epoch of every peer."""

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from measure.race import PATIENCE, TURN, Entry, Result, entry, new_folder, race
from measure.section import NotMeasuredError, Options, Section
from measure.table import Goal, ratios, table
from train_smarter.config.build import cpu_has_native_bf16

HINT = "uv pip install -e '.[benchmark]' --constraint requirements.lock"


@dataclass(frozen=True)
class Peer:
    """A contestant: its module in lab/peers, what it says in the table, the packages and variables it needs."""

    module: str
    says: str
    packages: Sequence[str] = ()
    backend: str = ""
    overrides: Sequence[str] = ()

    @property
    def environment(self) -> dict[str, str]:
        if not self.backend:
            return {}
        # TensorFlow would else take all of a GPU's memory for itself while the others wait for their turn.
        return {"KERAS_BACKEND": self.backend, "TF_CPP_MIN_LOG_LEVEL": "2", "TF_FORCE_GPU_ALLOW_GROWTH": "true"}


PEERS = {
    "ours": Peer("ours", "everything logged as by default"),
    "bare": Peer("bare", "Lightning with our model and data that logs nothing"),
    "tight": Peer("tight", "(b) the tightest plain PyTorch loop, data in memory"),
    "plain": Peer("plain", "(a) a plain PyTorch loop, per-sample transforms, DataLoader"),
    "keras-tensorflow": Peer("keras_fit", "(c) Keras 3 on TensorFlow", ("keras", "tensorflow"), "tensorflow"),
    "keras-torch": Peer("keras_fit", "(c) Keras 3 on PyTorch", ("keras",), "torch"),
    "stock": Peer("stock", "(d) Lightning as its documentation shows it"),
    "undiagnosed": Peer("ours", "the same without the diagnosis", overrides=["callbacks.diagnosis=null"]),
    "compiled": Peer("ours", "the same by torch.compile", overrides=["model.compile=default"]),
}
CONTEST = ("ours", "bare", "tight", "plain", "keras-tensorflow", "keras-torch", "stock")
PROCESSES = (
    "`ours`, `bare` and `tight` run in a process as `train` sets it up (CPU threads, memory that is kept), the others "
    "in one as Python starts it. "
)
# On every GPU, and on a CPU that has bf16 where a race has goals for it.
MIXED = "ours bf16-mixed"
PRECISIONS = {MIXED: Peer("ours", "the same in mixed precision", overrides=["trainer.precision=bf16-mixed"])}


@dataclass(frozen=True)
class Race:
    """An experiment, who takes part, the goals against them, and what the title adds."""

    experiment: str
    goals: Mapping[str, float]
    peers: Sequence[str] = CONTEST
    gpu_goals: Mapping[str, float] | None = None
    adds: str = ""
    mixed_goals: Mapping[str, float] | None = None  # on a CPU, of ours in mixed precision


RACES = {
    "cnn": Race(
        "cifar10_cnn",
        {"plain": 0.35, "tight": 1.05},
        gpu_goals={"plain": 0.05, "tight": 1.2},
        mixed_goals={"ours": 1, "plain": 0.35},
    ),
    "mlp": Race("mnist_mlp", {"tight": 1.3, "stock": 0.5}),
    "lstm": Race("imdb_lstm", {"tight": 1.05, "keras-tensorflow": 0.9, "keras-torch": 0.9}, mixed_goals={"ours": 1}),
    **{
        f"diagnosis_{name}": Race(
            experiment, {"undiagnosed": 1.03}, ("ours", "undiagnosed"), adds=", and without its diagnosis"
        )
        for name, experiment in (("mlp", "mnist_mlp"), ("cnn", "cifar10_cnn"))
    },
    "compile_cnn": Race("cifar10_cnn", {}, ("ours", "compiled"), adds=", and compiled"),
}


def measure(name: str, options: Options) -> Section:
    """Runs a race and makes its section."""
    contest = RACES[name]
    taking_part = {peer: PEERS[peer] for peer in contest.peers} | (PRECISIONS if mixed(contest, options) else {})
    left_out = {peer: lacking(it) for peer, it in taking_part.items() if lacking(it)}
    for peer, missing in left_out.items():
        print(f"  left out: {peer} needs {', '.join(missing)}: {HINT}")
    with new_folder() as folder:
        entries = [
            _entry(contest, peer, taking_part[peer], options, Path(folder))
            for peer in taking_part
            if peer not in left_out
        ]
        # A GPU would go on with what it has been told before its process stands still.
        results = race(entries, rounds=options.rounds, turn=PATIENCE if options.device == "cuda" else TURN)
    return section(contest, results, options, {peer: it.says for peer, it in taking_part.items()})


def mixed(contest: Race, options: Options) -> bool:
    """Whether ours in mixed precision takes part."""
    return options.device == "cuda" or (contest.mixed_goals is not None and cpu_has_native_bf16())


def lacking(peer: Peer) -> list[str]:
    """The packages that it needs and that are not installed."""
    return [package for package in peer.packages if importlib.util.find_spec(package) is None]


def _entry(contest: Race, name: str, peer: Peer, options: Options, folder: Path) -> Entry:
    hidden = {} if options.device == "cuda" else {"CUDA_VISIBLE_DEVICES": ""}  # Keras takes a GPU that it sees
    return entry(
        name,
        module=peer.module,
        environment={**peer.environment, **hidden},
        experiment=contest.experiment,
        epochs=options.rounds + 1,
        folder=str(folder / name.replace(" ", "-")),
        device=options.device,
        overrides=list(peer.overrides),
    )


def section(contest: Race, results: Mapping[str, Result], options: Options, says: Mapping[str, str]) -> Section:
    """The goals, and a row for everyone who came through.

    Raises:
        NotMeasuredError: ours did not.
    """
    name, ours = contest.experiment, results.get("ours")
    if ours is None:
        raise NotMeasuredError("our own process died")
    gpu = options.device == "cuda"
    where = " on a GPU" if gpu else ""
    what = f"one epoch of `{name}`{where}"
    goals = reached(what, ours, (contest.gpu_goals if gpu else contest.goals) or {}, results)
    if MIXED in results:
        wanted = {"ours": 1.0} if gpu else contest.mixed_goals or {}
        goals += reached(f"{what} in mixed precision", results[MIXED], wanted, results)
    rows = [
        [
            f"`{peer}`",
            says[peer],
            f"{result.median:.2f} s",
            "1" if peer == "ours" else str(ratios(ours.seconds, result.seconds)),
            f"{result.accuracy:.4f}",
        ]
        for peer, result in results.items()
    ]
    text = (
        f"`train experiment={name}` beside its peers: the same layers, initial weights, training examples, batch size, "
        f"optimizer, schedule and clipping; an epoch with all that is written and drawn in it, without its validation. "
        f"{PROCESSES if 'tight' in contest.peers else ''}All processes are alive at once and take turns, "
        f"{'an epoch each' if gpu else f'{TURN:g} s each until all have trained an epoch'}; "
        f"{options.rounds} rounds after one to warm up. Test accuracy is that of the last weights, after "
        f"{options.rounds + 1} epochs."
    )
    head = ("contestant", "what it is", "an epoch", "ours / its time", "test accuracy")
    return Section(f"One epoch of `{name}`{where}{contest.adds}", text, goals, [table(head, rows)])


def reached(what: str, own: Result, goals: Mapping[str, float], results: Mapping[str, Result]) -> list[Goal]:
    """A goal against each peer that came through."""
    return [
        Goal(
            f"{what} against {'32 bits' if peer == 'ours' else f'`{peer}`'}",
            most,
            ratios(own.seconds, results[peer].seconds),
        )
        for peer, most in goals.items()
        if peer in results
    ]


SECTIONS: dict[str, Callable[[Options], Section]] = {name: partial(measure, name) for name in RACES}
