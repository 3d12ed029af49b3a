"""What tests/benchmark.py measures is dqn.py, but for what it says that it varies."""
import subprocess
import sys
from pathlib import Path

import numpy as np

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


def test_controls_do_not_learn_and_punishment_goes():
    plain = learnt(benchmark.Agent, 64)
    assert not np.allclose(learnt(benchmark.ShuffledTargets, 64), plain, rtol=0, atol=1e-7)
    agent = benchmark.begin(0, benchmark.NoPunishment)
    remember_some(agent)
    assert {reward for _, _, reward, _, _ in agent.memory} == {1.0}
    before = agent.weights
    weights = benchmark.untrained(before)
    assert [weight.shape for weight in weights] == [weight.shape for weight in before]
    for ours, keras_s in zip(weights[::2], before[::2]):
        assert 0.8 < ours.std() / keras_s.std() < 1.25


def test_the_bar_and_the_median_of_seeds_that_never_reach_it():
    scores = [0] * 50 + [475] * 100 + [0]
    assert benchmark.first_at(scores, 475) == 150 and benchmark.first_at(scores, 476) == np.inf


def test_the_interval_holds_the_mean():
    assert benchmark.interval(np.arange(21.0)) == "+10 (+7 to +13)"
    assert benchmark.interval(np.full(9, 5.0)) == "+5 (+5 to +5)"


def test_the_snippet_in_the_readme_prints_what_it_says(monkeypatch, capsys):
    monkeypatch.chdir(benchmark.ROOT)
    readme = (benchmark.ROOT / "README.md").read_text()
    snippet = readme.partition("```python\n")[2].partition("```")[0]
    exec(snippet, {})
    told = np.array(capsys.readouterr().out.replace("[", " ").replace("]", " ").split(), float)
    said = snippet.rpartition("# ")[2].replace("[", " ").replace("]", " ").split()
    assert len(said) == 4 and np.allclose(told, np.array(said, float), atol=0.05)
