"""What tests/benchmark.py measures is dqn.py, but for what it says that it varies."""
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
import benchmark  # noqa: E402
from test_dqn import fill  # noqa: E402


def remember_some(agent):
    """Let the agent remember made-up frames, a tenth of them fatal."""
    random = np.random.default_rng(1)
    fill(agent, 450, random)
    fill(agent, 50, random, done=True, reward=-100)


def learnt(kind, batch_size):
    """The first layer after one replay."""
    agent = benchmark.begin(0, kind)
    remember_some(agent)
    agent.replay(batch_size)
    return agent.weights[0]


def test_the_loop_plays_as_dqn_py_does(tmp_path):
    command = [sys.executable, benchmark.ROOT / "dqn.py", "--episodes", "12", "--seed", "7"]
    out = subprocess.run([*command, "--weights", tmp_path / "x"], capture_output=True, text=True)
    scores = [int(line.split()[3][:-1]) for line in out.stdout.splitlines()]
    assert len(scores) == 12 and scores == benchmark.train(benchmark.begin(7), 12)


def test_other_targets_move_with_the_gradient_steps():
    """In a replay of one minibatch all are the same; in one of two, no two of them are."""
    kinds = benchmark.Agent, benchmark.MovingTargets, benchmark.StandardDQN
    for batch_size in 64, 128:
        ours, moving, standard = (learnt(kind, batch_size) for kind in kinds)
        for one, two in (ours, moving), (ours, standard), (moving, standard):
            assert np.allclose(one, two, rtol=0, atol=1e-7) == (batch_size == 64)


def test_moving_targets_let_epsilon_decay_once():
    agent = benchmark.begin(0, benchmark.MovingTargets)
    remember_some(agent)
    agent.replay(640)
    assert agent.epsilon == agent.epsilon_decay


def test_a_row_s_numbers_reach_the_compiled_fit():
    """One gradient step moves by rate times gradient, and by no more than rate where it is cut."""
    optimizers = {name: row["numbers"].get("optimizer") for name, row in benchmark.ROWS.items()}
    start = benchmark.begin(0).weights
    plain, unclipped, rmsprop = (
        benchmark.begin(0, numbers=dict(optimizer=optimizers[name]) if optimizers[name] else {})
        for name in ("dqn.py", "no clip", "RMSprop .0001"))
    states, targets = np.ones((64, 4), "float32"), np.full((64, 2), 100, "float32")
    moved = []
    for agent in plain, unclipped, rmsprop:
        agent.fit(states, targets)
        moved.append(max(np.abs(new - old).max() for new, old in zip(
            agent.model.get_weights(), start)))
    assert moved[0] == pytest.approx(0.002, rel=1e-3) and moved[1] > 0.01
    assert moved[2] == pytest.approx(1e-4 / np.sqrt(0.1), rel=1e-2)
    single = benchmark.begin(0, numbers=dict(minibatch_size=8))
    single.fit(states, targets)
    assert single.model.optimizer.iterations == 8


def test_controls_do_not_learn_and_punishment_goes():
    assert not np.allclose(learnt(benchmark.ShuffledTargets, 64), learnt(benchmark.Agent, 64),
                           rtol=0, atol=1e-7)
    agent = benchmark.begin(0, benchmark.NoPunishment)
    remember_some(agent)
    assert {reward for _, _, reward, _, _ in agent.memory} == {1.0}
    agent, searching = benchmark.begin(0), benchmark.begin(0, benchmark.Search)
    remember_some(searching)
    searching.replay(64)
    for old, new in zip(agent.weights, searching.weights):
        assert old.shape == new.shape and not np.array_equal(old, new) or old.ndim == 1
    for old, new in zip(agent.weights[::2], searching.weights[::2]):
        assert 0.8 < new.std() / old.std() < 1.25


def test_the_bar_and_seeds_that_never_reach_it():
    scores = [0] * 50 + [475] * 100 + [0]
    assert benchmark.first_at(scores, 475) == 150 and benchmark.first_at(scores, 476) is None


def test_the_snippet_in_the_readme_prints_what_it_says(monkeypatch, capsys):
    monkeypatch.chdir(benchmark.ROOT)
    readme = (benchmark.ROOT / "README.md").read_text()
    snippet = readme.partition("```python\n")[2].partition("```")[0]
    exec(snippet, {})
    told = np.array(capsys.readouterr().out.replace("[", " ").replace("]", " ").split(), float)
    said = snippet.rpartition("# ")[2].replace("[", " ").replace("]", " ").split()
    assert len(said) == 4 and np.allclose(told, np.array(said, float), atol=0.05)
