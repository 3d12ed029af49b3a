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
    start = benchmark.begin(0).weights
    states, targets = np.ones((64, 4), "float32"), np.full((64, 2), 100, "float32")

    def fitted(name):
        agent = benchmark.begin(0, **benchmark.ROWS[name])
        agent.fit(states, targets)
        return agent.model.optimizer.iterations, max(np.abs(new - old).max() for new, old in zip(
            agent.model.get_weights(), start))

    first = 1 / np.sqrt(0.1)  # RMSprop's first step, in learning rates
    assert fitted("dqn.py as it is") == (1, pytest.approx(2e-4 * first, rel=1e-2))
    assert fitted("the post's learning rate, .0001")[1] == pytest.approx(1e-4 * first, rel=1e-2)
    assert fitted("SGD(.002) with the gradient cut off at 1")[1] == pytest.approx(2e-3, rel=1e-2)
    assert fitted("steps of 8 frames instead of 64")[0] == 8
    assert fitted(benchmark.POST)[0] == 64


def played(name, games=12, **loop):
    """Scores, sizes of the replays, and agent after games of a row in which nothing is learnt."""
    settings = benchmark.ROWS[name]
    agent, sizes = benchmark.begin(0, **settings), []
    agent.fit = lambda state, target_f: sizes.append(len(state))
    scores = benchmark.train(agent, games, **settings["loop"], **loop)
    assert max(scores) < 200  # no beginner wins, so each game is a loss, but for a shorter limit
    return scores, sizes, agent


def test_a_row_s_settings_reach_the_loop():
    scores, sizes, agent = played("dqn.py as it is")
    assert sizes == [2048] * 72 and len(agent.memory) == sum(scores)
    epsilon = pytest.approx(agent.epsilon)
    assert played("`replay(32)`")[1] == [32] * 72
    assert len(played("one replay after each game")[1]) == 12
    assert played("one replay after each game")[2].epsilon == epsilon
    scores, _, agent = played("the last game only, no older memories")
    assert len(agent.memory) == scores[-1]
    assert played("no exploring: `epsilon` .1 from the start")[2].epsilon == 0.1
    _, sizes, agent = played(benchmark.POST)
    assert sizes == [1] * 32 * 12 and agent.epsilon == pytest.approx(.995 ** 12)
    assert agent.env.spec.id == "CartPole-v0" and type(agent.memory) is list


def test_a_game_that_is_won_by_the_clock():
    for name, done, replays in (("dqn.py as it is", False, 1), ("each game begins anew", False, 1),
                                ("six replays after a won game, too", False, 6),
                                ("the clock is a loss", True, 1)):
        _, sizes, agent = played(name, games=2, limit=5)
        assert [frame[4] for frame in agent.memory] == [False] * 4 + [done] + [False] * 4 + [done]
        goes_on = np.array_equal(agent.memory[4][3], agent.memory[5][0])
        assert goes_on == ("anew" not in benchmark.ROWS[name]["loop"])
        assert len(sizes) == 2 * replays


def double(number):
    return dict(twice=2 * number)


def test_a_benchmark_goes_on_where_it_was_but_runs_of_older_code_are_made_anew(
        monkeypatch, tmp_path):
    monkeypatch.setattr(benchmark, "RESULTS", tmp_path)
    code = benchmark.code_of(double)
    (tmp_path / "double.csv").write_text(
        f"number,twice,code\n1,99,{code}\n2,99,older\n7,99,{code}\n")
    benchmark.complete(double, [(3,), (2,), (1,)])
    assert [row["twice"] for row in benchmark.read("double")] == ["6", "4", "99"]


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
