"""What dqn.py promises: the agent does what the post says, and the script does what the README says.

The script is run as a program, in a temporary folder; where a test needs it different, as a copy with a place edited.
"""
import argparse
import ast
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from benchmark import ROOT, SCRIPT, dqn, edited, fresh  # noqa: E402

LINE = re.compile(r"episode: \d+/\d+, score: \d+, epsilon: [01]\.\d\d")
SOLUTION = ROOT / "save/cartpole-dqn.weights.h5"
ENVIRONMENT = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1", "KERAS_BACKEND": "jax", "LC_ALL": "C"}
for name in "DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER", "XDG_RUNTIME_DIR":
    ENVIRONMENT.pop(name, None)


@pytest.fixture
def agent():
    dqn.keras.utils.set_random_seed(0)
    return dqn.DQNAgent(dqn.gym.make("CartPole-v1"))


@pytest.fixture
def folder(tmp_path):
    """A folder with nothing but the script, its name not free of blanks."""
    folder = tmp_path / "a clone"
    folder.mkdir()
    (folder / "dqn.py").write_text(SCRIPT)
    return folder


def start(folder, *args, cwd=None, **environment):
    return subprocess.Popen([sys.executable, folder / "dqn.py", *args], cwd=cwd or folder, text=True,
                            env={**ENVIRONMENT, **environment}, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def run(folder, *args, **keywords):
    """Run the script to its end; its exit code, the lines on stdout and those on stderr."""
    process = start(folder, *args, **keywords)
    out, err = process.communicate(timeout=540)
    assert "Traceback" not in err, err
    return process.returncode, out.splitlines(), err.splitlines()


def with_solution(folder):
    (folder / "save").mkdir()
    return shutil.copy(SOLUTION, folder / "save")


def fill(agent, count, random=np.random.default_rng(1), **given):
    """Let the agent remember made-up transitions, and return them."""
    for _ in range(count):
        state, next_state = np.float32(random.normal(size=(2, 1, 4)))
        each = dict(state=state, action=np.int64(random.integers(2)), reward=1.0, next_state=next_state, done=False)
        agent.remember(**{**each, **given})
    return agent.memory[-count:]


def linear(agent, *wish):
    """Make the agent push right where the weighted sum of position, velocity, angle and angular velocity is positive."""
    weights = [np.zeros_like(weight) for weight in agent.weights]
    weights[0][:, 0] = np.array(wish) / 100  # tanh of so little is the little itself
    weights[2][0, 0] = weights[4][0, 0] = 1
    weights[6][0] = -1, 1
    agent.model.set_weights(weights)
    return agent


# The agent


def test_the_post_s_names_and_numbers(agent):
    for name in "env memory gamma epsilon epsilon_decay epsilon_min learning_rate model".split():
        assert hasattr(agent, name)
    assert (agent.epsilon, agent.epsilon_min, agent.memory) == (1, 0.1, [])
    fill(agent, 3000)
    assert len(agent.memory) == 3000 and agent.memory[7][0].shape == (1, 4) and len(agent.memory[7]) == 5
    assert [(layer.units, layer.activation.__name__) for layer in agent.model.layers] == [(128, "tanh")] * 3 + [(2, "linear")]
    assert agent.model.loss == "mse" and type(agent.model.optimizer).__name__ == "RMSprop"
    assert float(agent.model.optimizer.learning_rate.numpy()) == pytest.approx(agent.learning_rate)


def test_predict_is_model_predict_also_after_replay_save_and_load(agent, tmp_path):
    states = np.float32(np.random.default_rng(2).normal(size=(50, 4)))
    agent.save(tmp_path / "first.weights.h5")
    assert os.listdir(tmp_path) == ["first.weights.h5"]
    answers = []
    for change in lambda: None, lambda: fill(agent, 5) and agent.replay(8), lambda: agent.load(tmp_path / "first.weights.h5"):
        change()
        answers.append(agent.predict(states))
        np.testing.assert_allclose(answers[-1], agent.model.predict(states, verbose=0), rtol=1e-4, atol=1e-5)
    assert not np.allclose(answers[0], answers[1]) and np.array_equal(answers[0], answers[2])
    agent.replay(8)
    assert agent._fit.experimental_get_tracing_count() == 1  # compiled for the first replay, not again for the second


def test_fit_is_what_keras_does_with_each_minibatch_in_turn(agent):
    random = np.random.default_rng(3)
    states, targets = np.float32(random.normal(size=(20, 32, 4))), np.float32(10 * random.normal(size=(20, 32, 2)))
    plain = dqn.DQNAgent(agent.env).model
    before = agent.weights
    plain.set_weights(before)
    for state, target_f in zip(states, targets):
        plain.train_on_batch(state, target_f)
    agent.fit(states.reshape(-1, 4), targets.reshape(-1, 2), 32)
    for ours, keras_s in zip(agent.model.get_weights(), plain.get_weights()):
        np.testing.assert_allclose(ours, keras_s, atol=1e-4)
    assert np.abs(agent.weights[2] - before[2]).max() > 0.01  # and it did go somewhere


def test_act_explores_at_epsilon_1_and_is_greedy_at_0(agent):
    states = np.float32(np.random.default_rng(4).normal(size=(200, 1, 4)))
    best = [np.argmax(agent.model(state).numpy()[0]) for state in states]
    assert len(set(best)) == 2
    assert 400 < sum(agent.act(states[0]) for _ in range(1000)) < 600
    agent.epsilon = 0
    assert [agent.act(state) for state in states] == best
    agent.epsilon = 0.1  # a tenth at random, half of which would have been the best anyway
    assert 0.9 < np.mean([agent.act(states[0]) == best[0] for _ in range(2000)]) < 0.99


def test_replay_fits_the_post_s_targets(agent):
    """For each sample, read literally: target = reward, and if not done, + gamma * amax(model.predict(next_state)[0])."""
    literal, fitted = {}, []
    for state, action, reward, next_state, done in fill(agent, 20) + fill(agent, 20, done=True, reward=-100):
        target = reward
        if not done:
            target = reward + agent.gamma * np.amax(agent.model.predict(next_state, verbose=0)[0])
        target_f = agent.model.predict(state, verbose=0)
        target_f[0][action] = target
        literal[state.tobytes()] = target_f[0]
    agent.fit = lambda *args: fitted.append(args)
    agent.replay(32)
    (states, targets, batch_size), = fitted
    assert (states.shape, targets.shape, batch_size) == ((1024, 4), (1024, 2), 32)
    assert {state.tobytes() for state in states} == set(literal)  # 40 memories, each drawn sooner or later
    for state, target_f in zip(states, targets):
        np.testing.assert_allclose(target_f, literal[state.tobytes()], rtol=1e-5, atol=1e-5)


def test_replay_learns_the_values_of_a_world_of_two_states(agent):
    """From state A, action 0 ends the game with 2, action 1 leads to B with 0; from B every action ends it with 10."""
    a, b = np.float32([[1, 0, 0, 0]]), np.float32([[0, 1, 0, 0]])
    for each in (a, 0, 2, b, True), (a, 1, 0, b, False), (b, 0, 10, a, True), (b, 1, 10, a, True):
        agent.remember(*each)
    values = []
    for _ in range(100):  # RMSprop's steps do not shrink, so the values tremble: take their mean
        agent.replay(16)
        values.append(agent.predict(np.concatenate([a, b])))
    np.testing.assert_allclose(np.mean(values[-40:], axis=0), [[2, agent.gamma * 10], [10, 10]], atol=0.3)


def test_epsilon_decays_with_each_replay_to_its_minimum(agent):
    fill(agent, 1)
    agent.fit = lambda *args: None
    epsilons = [agent.replay(2) or agent.epsilon for _ in range(200)]
    assert epsilons[:2] == pytest.approx([agent.epsilon_decay, agent.epsilon_decay ** 2])
    assert agent.epsilon_decay * agent.epsilon_min < epsilons[-1] <= agent.epsilon_min


# Training


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    (folder / "dqn.py").write_text(SCRIPT)
    return folder, *run(folder)


def test_training_ends_solved_and_prints_nothing_but_its_own_lines(trained):
    folder, code, out, err = trained
    assert (code, err) == (0, []) and all(map(LINE.fullmatch, out[:-1]))
    assert [line.split()[1] for line in out[:-1]] == [f"{e}/1000," for e in range(len(out) - 1)]
    assert out[-1].startswith(f"solved after {len(out) - 1} games: 200 of 200 games without exploring") and str(folder / "save") in out[-1]
    assert sorted(os.listdir(folder / "save")) == ["cartpole-dqn.png", "cartpole-dqn.weights.h5"]
    picture = np.asarray(dqn.Image.open(folder / "save/cartpole-dqn.png").convert("RGB"))
    assert picture.shape[1] >= 600 and len(np.unique(picture.reshape(-1, 3), axis=0)) > 50


def test_the_trained_and_the_shipped_player_keep_the_pole_for_5000_frames(trained):
    for weights in trained[0] / "save/cartpole-dqn.weights.h5", SOLUTION:
        assert (fresh(weights, 100, 5000)[0] == 5000).sum() >= 99
        assert (fresh(weights, 100, 500)[0] == 500).sum() >= 99


def test_same_seed_same_lines_same_weights_and_another_seed_others(folder):
    (folder / "save").mkdir()
    runs = [run(folder, "--episodes", "12", "--seed", seed, "--weights", f"save/{i}.weights.h5")[1]
            for i, seed in enumerate("778")]
    agents = [dqn.DQNAgent(None) for _ in range(3)]
    for i, agent in enumerate(agents):
        agent.load(folder / f"save/{i}.unsolved.weights.h5")
    assert len(runs[0]) == 12 and runs[0] == runs[1] != runs[2]
    assert all(map(np.array_equal, agents[0].weights, agents[1].weights))
    assert not np.array_equal(agents[0].weights[0], agents[2].weights[0])


@pytest.mark.parametrize("limit", [5, 500])
def test_dying_is_remembered_as_done_and_the_time_limit_is_not(folder, limit):
    """No pole falls within 5 frames, so nobody dies; within 500, one who explores does, at the end of each game."""
    (folder / "dqn.py").write_text(edited(
        ("    agent = DQNAgent(env)\n", f"    env._max_episode_steps = {limit}\n    agent = DQNAgent(env)\n"),
        ("    agent.save(f", "    np.save('memory.npy', np.array(agent.memory, dtype=object)); np.save('scores.npy', scores)\n"
         "    agent.save(f")))
    run(folder, "--episodes", "10")
    memory, scores = np.load(folder / "memory.npy", allow_pickle=True), np.load(folder / "scores.npy")
    ends = np.cumsum(scores) - 1
    assert len(memory) == sum(scores) and (max(scores) == 5 if limit == 5 else 8 < max(scores) < 500)
    assert [i for i, done in enumerate(memory[:, 4]) if done] == ([] if limit == 5 else ends.tolist())
    assert all(reward == (-100 if done else 1) for _, _, reward, _, done in memory)
    for i in set(range(len(memory) - 1)) - set(ends):
        assert np.array_equal(memory[i, 3], memory[i + 1, 0])


@pytest.mark.parametrize("wish, solved", [((0, 0, 1, 0.5), False), ((0.1, 0.2, 1, 0.5), True)])
def test_the_check_refuses_who_balances_but_drifts_away(agent, folder, wish, solved):
    """The first of these two networks lasts 500 frames in 100 of 100 games, more than 1,000 mostly, but not 5,000."""
    linear(agent, *wish).save(folder / "given.weights.h5")
    lasts = fresh(folder / "given.weights.h5", 100, 5000)[0]
    assert lasts.min() >= 500 and np.median(lasts) > 1000 and (lasts.min() == 5000) == solved
    sieve = [] if solved else [("greedy[-3:] == [5000] * 3 and ", "")]  # the many games have to notice, also without it
    (folder / "dqn.py").write_text(edited(("agent.replay(48)", "agent.load('given.weights.h5')"), *sieve))
    code, out, err = run(folder, "--episodes", "4")
    assert (code, len(out)) == ((0, 4) if solved else (1, 4))
    assert (folder / "save/cartpole-dqn.weights.h5").exists() == solved


# Files, signals and windows


def test_an_unsolved_run_keeps_its_weights_beside_a_solution(folder, tmp_path):
    solution = Path(with_solution(folder))
    code, out, err = run(folder, "--episodes", "2", cwd=tmp_path)
    assert code == 1 and len(out) == 2 and len(err) == 1 and err[0].startswith("not solved after 2 games")
    assert solution.read_bytes() == SOLUTION.read_bytes()
    unsolved = folder / "save/cartpole-dqn.unsolved.weights.h5"
    assert str(unsolved) in err[0] and fresh(unsolved, 10, 500)[0].mean() < 500
    assert sorted(os.listdir(folder / "save")) == ["cartpole-dqn.unsolved.png", unsolved.name, solution.name]


@pytest.mark.parametrize("games", [1, 20])
def test_ctrl_c_keeps_what_was_learnt_and_says_so(folder, games):
    solution = Path(with_solution(folder))
    process = start(folder)
    for _ in range(games):
        process.stdout.readline()
    time.sleep(np.random.random() / 10)  # in a game, in a replay, in a check
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1 and len(err.splitlines()) == 1 and err.startswith("not solved after")
    fresh(folder / "save/cartpole-dqn.unsolved.weights.h5", 1, 500)
    assert solution.read_bytes() == SOLUTION.read_bytes()


@pytest.mark.parametrize("place", ["self.model.save_weights(", "os.replace("])
def test_kill_9_while_saving_leaves_the_old_file_whole(folder, place):
    (folder / "dqn.py").write_text(edited((f"        {place}", f"        os.kill(os.getpid(), 9)\n        {place}")))
    solution = Path(with_solution(folder))
    code = "import dqn; dqn.DQNAgent(None).save('save/cartpole-dqn.weights.h5')"
    assert subprocess.run([sys.executable, "-c", code], cwd=folder, env=ENVIRONMENT).returncode == -9
    assert solution.read_bytes() == SOLUTION.read_bytes()


def test_two_runs_at_once(folder):
    both = [start(folder, "--episodes", "5", "--seed", seed) for seed in "12"]
    assert [process.wait() for process in both] == [1, 1]
    fresh(folder / "save/cartpole-dqn.unsolved.weights.h5", 1, 500)
    assert len(os.listdir(folder / "save")) == 2


def test_divergence_is_said_and_not_saved(folder):
    (folder / "dqn.py").write_text(re.sub(r"(self.learning_rate =) \S+", r"\1 1e30", SCRIPT, count=1))
    code, out, err = run(folder)
    assert code == 1 and len(err) == 1 and "NaN" in err[0] and os.listdir(folder / "save") == []


def test_watch_writes_an_animation(folder):
    with_solution(folder)
    assert run(folder, "--watch", "--gif", "play it.gif") == (0, ["episode: 0/1000, score: 500"], [])
    with dqn.Image.open(folder / "play it.gif") as gif:
        assert gif.size == (600, 400) and gif.n_frames > 100 and gif.info["loop"] == 0
        first = np.asarray(gif.convert("RGB")).astype(int)
        gif.seek(gif.n_frames // 2)
        moved = np.abs(first - np.asarray(gif.convert("RGB"))).max(axis=2) > 50
    assert 50 < moved.sum() < 20_000  # the cart and the pole, not the whole picture
    assert (folder / "play it.gif").stat().st_size < 1_000_000


def test_watch_plays_in_a_window_at_the_game_s_own_speed(folder):
    with_solution(folder)
    began = time.monotonic()
    assert run(folder, "--watch", "--episodes", "1", SDL_VIDEODRIVER="dummy") == (0, ["episode: 0/1, score: 500"], [])
    assert time.monotonic() - began > 500 / 50


def test_render_shows_the_training(folder):
    assert [len(lines) for lines in run(folder, "--render", "--episodes", "2", SDL_VIDEODRIVER="dummy")[1:]] == [2, 1]


def test_ctrl_c_ends_the_watching_quietly(folder):
    with_solution(folder)
    process = start(folder, "--watch", SDL_VIDEODRIVER="dummy")
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=10)[1] == "" and process.returncode == 0


@pytest.mark.skipif(not shutil.which("Xvfb"), reason="Xvfb is not installed")
def test_a_real_window_opens_plays_and_closes_quietly(folder):
    xlib = pytest.importorskip("Xlib.display", reason="python-xlib is not installed")
    from Xlib.protocol.event import ClientMessage
    with_solution(folder)
    server = subprocess.Popen(["Xvfb", "-displayfd", "1", "-screen", "0", "800x600x24"], text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        name = ":" + server.stdout.readline().strip()
        process = start(folder, "--watch", DISPLAY=name)
        assert process.stdout.readline() == "episode: 0/1000, score: 500\n"
        display = xlib.Display(name)
        window, = display.screen().root.query_tree().children
        picture = window.get_image(0, 0, 600, 400, 2, 0xffffffff)  # 2: the format ZPixmap
        colours, counts = np.unique(np.frombuffer(picture.data, "uint32") & 0xffffff, return_counts=True)
        assert colours[np.argmax(counts)] == 0xffffff and 0xca9865 in colours  # the sky, and the pole
        close = [display.intern_atom("WM_DELETE_WINDOW"), 0, 0, 0, 0]  # what a click on the window's cross sends
        window.send_event(ClientMessage(window=window, client_type=display.intern_atom("WM_PROTOCOLS"), data=(32, close)))
        display.flush()
        assert process.communicate(timeout=30)[1] == "" and process.returncode == 0
    finally:
        server.kill()


def test_the_old_gym_will_do(folder):
    pytest.importorskip("gym_notices")
    (folder / "gymnasium.py").write_text("raise ImportError('as if it were not installed')")
    with_solution(folder)
    assert run(folder, "--watch", "--gif", "play.gif") == (0, ["episode: 0/1000, score: 500"], [])
    (folder / "dqn.py").write_text(edited(("agent.replay(48)", "agent.load(args.weights)")))  # to reach the check at once
    code, out, err = run(folder, "--episodes", "4")
    assert (code, len(out), err) == (0, 4, [])


# Mistakes, and the README


@pytest.mark.parametrize("args, said", [
    ("--episodes 0", "--episodes"), ("--episodes x", "--episodes"), ("--seed -1", "--seed"), ("--fast", "--fast"),
    ("--seed 2147483648", "--seed"), ("--weights x.h5", "NAME.weights.h5"), ("--weights nowhere/x.weights.h5", "nowhere"),
    ("--weights folder.weights.h5", "folder.weights.h5"), ("--gif play.gif", "--watch"), ("--watch --gif play.png", "NAME.gif"),
    ("--watch --gif nowhere/play.gif", "nowhere"), ("--watch", "--gif FILE"), ("--render", "--gif FILE")])
def test_wrong_commands_end_with_one_line_and_exit_code_2(tmp_path, monkeypatch, capsys, args, said):
    (tmp_path / "folder.weights.h5").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["dqn.py", *args.split()])
    monkeypatch.setattr(os, "environ", dict(ENVIRONMENT))
    with pytest.raises(SystemExit) as error:
        dqn.options()
    out, err = capsys.readouterr()
    assert (error.value.code, out, err.count("\n")) == (2, "", 1) and err.startswith("dqn.py: error:") and said in err


def test_weights_that_cannot_be_loaded(folder, agent):
    good = SOLUTION.read_bytes()
    for name, content in ("empty", b""), ("truncated", good[:len(good) // 2]), ("text", b"balance the pole\n" * 1000):
        (folder / f"{name}.weights.h5").write_bytes(content)
    foreign = dqn.Sequential([dqn.Input((4,)), *map(dqn.Dense, (24, 24, 2))])
    foreign.compile("adam", "mse")
    foreign.optimizer.build(foreign.trainable_variables)
    foreign.save_weights(folder / "foreign.weights.h5")
    for name in "missing", "empty", "truncated", "text", "foreign":
        args = argparse.Namespace(weights=f"{folder}/{name}.weights.h5", episodes=1, gif=None)
        said = dqn.watch(agent, agent.env, args)
        assert said.startswith(f"dqn.py: watching {folder}/{name}.weights.h5: ") and "\n" not in said and len(said) > len(str(folder)) + 40
    code, out, err = run(folder, "--watch", "--gif", "play.gif", "--weights", "foreign.weights.h5")
    assert (code, out, len(err)) == (1, [], 1) and not (folder / "play.gif").exists()


def test_the_readme_leads_to_the_right_lines():
    """Every `name` linked to lines of dqn.py is the function or the piece of text that is found there."""
    links = re.findall(r"\[`(.+?)`\]\(dqn\.py#L(\d+)-L(\d+)\)", (ROOT / "README.md").read_text())
    found = {node.name: (node.lineno, node.end_lineno) for node in ast.walk(ast.parse(SCRIPT)) if getattr(node, "name", None)
             and hasattr(node, "lineno")}
    assert len(links) >= 8
    for name, first, last in links:
        if name in found:
            assert found[name] == (int(first), int(last)), name
        else:
            assert SCRIPT.splitlines()[int(first) - 1].strip().startswith(name), name
