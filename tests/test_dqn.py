"""What dqn.py promises: the agent does what the post says, the script what the README says.

The script is run as a program in a temporary folder, where necessary a copy with a place edited.
"""
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
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))
from benchmark import ROOT, SCRIPT, SOLUTION, agent_with, dqn, fresh  # noqa: E402

LINE = re.compile(r"episode: \d+/\d+, score: \d+, epsilon: [01]\.\d\d")
ENVIRONMENT = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1",
               "KERAS_BACKEND": "jax", "LC_ALL": "C"}
for name in "DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER", "XDG_RUNTIME_DIR":
    ENVIRONMENT.pop(name, None)


@pytest.fixture
def agent():
    dqn.keras.utils.set_random_seed(0)
    return dqn.DQNAgent(dqn.gym.make("CartPole-v1"))


@pytest.fixture
def folder(tmp_path):
    """A folder with the script and an empty save/, its name not free of blanks."""
    folder = tmp_path / "a clone"
    (folder / "save").mkdir(parents=True)
    (folder / "dqn.py").write_text(SCRIPT)
    return folder


def start(folder, *args, **environment):
    return subprocess.Popen([sys.executable, folder / "dqn.py", *args], cwd=folder, text=True,
                            env={**ENVIRONMENT, **environment},
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def run(folder, *args, **keywords):
    """Run the script to its end; its exit code, the lines on stdout and those on stderr."""
    process = start(folder, *args, **keywords)
    out, err = process.communicate(timeout=540)
    assert "Traceback" not in err, err
    return process.returncode, out.splitlines(), err.splitlines()


def edited(*changes):
    """The script with each (old, new) of the changes made; old has to stand in it exactly once."""
    script = SCRIPT
    for old, new in changes:
        assert script.count(old) == 1, f"{old!r} stands {script.count(old)} times in dqn.py"
        script = script.replace(old, new)
    return script


def with_solution(folder):
    return Path(shutil.copy(SOLUTION, folder / "save"))


def playing(folder, weights, epsilon=0):
    """Let the script, instead of learning, play with the weights given."""
    np.savez(folder / "given.npz", *weights)
    player = "agent.weights = [*np.load('given.npz').values()]; agent.epsilon ="
    return "agent.replay(2048)", f"{player} {epsilon}"


def fill(agent, count, random=np.random.default_rng(1), **given):
    """Let the agent remember made-up transitions, and return them."""
    for _ in range(count):
        state, next_state = np.float32(random.normal(size=(2, 1, 4)))
        each = dict(state=state, action=np.int64(random.integers(2)), reward=1.0,
                    next_state=next_state, done=False)
        agent.remember(**{**each, **given})
    return list(agent.memory)[-count:]


def linear(agent, *wish):
    """Weights that push right where the weighted sum of position, velocity, angle, spin is > 0."""
    weights = [np.zeros_like(weight) for weight in agent.weights]
    weights[0][:, 0] = np.array(wish) / 100  # tanh of so little is the little itself
    weights[2][0, 0] = weights[4][0, 0] = weights[6][0, 1] = 1
    return weights


def test_the_post_s_names_and_numbers(agent):
    assert (agent.epsilon, agent.epsilon_decay, agent.epsilon_min) == (1, .995, 0.1)
    assert len(agent.memory) == 0 and fill(agent, 1)[0][0].shape == (1, 4)
    assert [(layer.units, layer.activation.__name__) for layer in agent.model.layers] == [
        (128, "tanh")] * 3 + [(2, "linear")]
    optimizer = agent.model.optimizer
    assert agent.model.loss == "mse" and type(optimizer).__name__ == "RMSprop"
    assert optimizer.learning_rate.numpy() == pytest.approx(agent.learning_rate)
    assert optimizer.epsilon == agent.rmsprop_epsilon


def test_predict_is_model_predict_also_after_replay(agent):
    states = np.float32(np.random.default_rng(2).normal(size=(50, 4)))
    answers = []
    for change in lambda: None, lambda: fill(agent, 5) and agent.replay(2 * agent.minibatch_size):
        change()
        answers.append(agent.predict(states))
        keras_s = agent.model.predict(states, verbose=0)
        np.testing.assert_allclose(answers[-1], keras_s, rtol=1e-4, atol=1e-5)
    assert not np.allclose(*answers)
    traces = agent.fit.experimental_get_tracing_count()
    agent.replay(2 * agent.minibatch_size)
    assert agent.fit.experimental_get_tracing_count() == traces  # not compiled again


@pytest.mark.parametrize("xla", [True, False])
def test_fit_is_model_fit_also_where_xla_is_missing(agent, monkeypatch, xla):
    if not xla:
        monkeypatch.setattr("keras.src.trainers.trainer.model_supports_jit", lambda model: False)
        with pytest.warns(UserWarning, match="jit_compile"):
            agent = dqn.DQNAgent(agent.env)
    assert agent.model.jit_compile == xla
    random, size = np.random.default_rng(3), agent.minibatch_size
    states = np.float32(random.normal(size=(20 * size, 4)))
    targets = np.float32(50 * random.normal(size=(20 * size, 2)))
    plain = dqn.DQNAgent(agent.env).model
    plain.set_weights(agent.weights)
    plain.fit(states, targets, batch_size=size, shuffle=False, verbose=0)
    agent.fit(states, targets)
    for before, ours, keras_s in zip(
            agent.weights, agent.model.get_weights(), plain.get_weights()):
        np.testing.assert_allclose(ours, keras_s, atol=1e-4)
        assert np.abs(ours - before).max() > 0.001  # and it did go somewhere


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
    """As the post reads: target = reward, and if not done, + gamma * amax(predict(next_state))."""
    literal, fitted = {}, []
    for state, action, reward, next_state, done in (
            fill(agent, 20) + fill(agent, 20, done=True, reward=-100)):
        target = reward
        if not done:
            future = np.amax(agent.model.predict(next_state, verbose=0)[0])
            target = reward + agent.gamma * future
        target_f = agent.model.predict(state, verbose=0)
        target_f[0][action] = target
        literal[state.tobytes()] = target_f[0]
    agent.fit = lambda *args: fitted.append(args)
    agent.replay(480)
    (states, targets), = fitted
    assert (states.shape, targets.shape) == ((480, 4), (480, 2))
    assert {state.tobytes() for state in states} == set(literal)  # 40 memories, each drawn
    for state, target_f in zip(states, targets):
        np.testing.assert_allclose(target_f, literal[state.tobytes()], rtol=1e-5, atol=1e-5)


def test_the_memory_forgets_the_oldest(agent):
    (first,), rest = fill(agent, 1), fill(agent, 4999)
    assert agent.memory[0] is first and fill(agent, 1)
    assert len(agent.memory) == 5000 and agent.memory[0] is rest[0]


def test_epsilon_decays_with_each_replay_to_its_minimum(agent):
    fill(agent, 1)
    agent.fit = lambda *args: None
    epsilons = [agent.replay(2) or agent.epsilon for _ in range(600)]
    assert epsilons[:2] == pytest.approx([agent.epsilon_decay, agent.epsilon_decay ** 2])
    assert agent.epsilon_decay * agent.epsilon_min < epsilons[-1] <= agent.epsilon_min


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    (folder / "save").mkdir()
    (folder / "dqn.py").write_text(SCRIPT)
    return folder, *run(folder)


def test_training_ends_solved_and_prints_nothing_but_its_own_lines(trained):
    folder, code, out, err = trained
    assert (code, err) == (0, []) and all(map(LINE.fullmatch, out[:-1]))
    assert [line.split()[1] for line in out[:-1]] == [f"{e}/1000," for e in range(len(out) - 1)]
    assert out[-1].startswith(f"solved after {len(out) - 1} games") and str(folder) in out[-1]
    assert np.mean([int(line.split()[3][:-1]) for line in out[-101:-1]]) >= 475
    assert sorted(os.listdir(folder / "save")) == ["cartpole-dqn.png", "cartpole-dqn.weights.h5"]
    picture = np.asarray(Image.open(folder / "save/cartpole-dqn.png").convert("RGB"))
    assert picture.shape[1] >= 600 and len(np.unique(picture.reshape(-1, 3), axis=0)) > 50


def test_the_trained_and_the_shipped_player_keep_the_pole_for_5000_frames(trained):
    for weights in trained[0] / "save/cartpole-dqn.weights.h5", SOLUTION:
        assert (fresh(weights, 100, 5000)[0] == 5000).sum() >= 99
        assert (fresh(weights, 100, 500)[0] == 500).sum() >= 99


def test_same_seed_same_run_another_seed_another_and_exams_change_nothing(folder):
    weights, lines = [], []
    bar = ("e >= 99 and np.mean(scores[-100:]) >= bar and play", "play")  # an exam a game
    for i, (seed, edits) in enumerate(zip("7778", ([], [], [bar], []))):
        (folder / "dqn.py").write_text(edited(*edits))
        name = folder / f"save/{i}.weights.h5"
        lines.append(run(folder, "--episodes", "12", "--seed", seed, "--weights", name)[1])
        weights.append(agent_with(folder / f"save/{i}.unsolved.weights.h5").weights)
    assert len(lines[0]) == 12 and lines[0] == lines[1] == lines[2] != lines[3]
    assert all(map(np.array_equal, weights[0] * 2, weights[1] + weights[2]))


@pytest.mark.parametrize("limit", [5, 500])
def test_dying_is_remembered_as_done_and_the_time_limit_is_not(folder, limit):
    """No pole falls within 5 frames; within 500, that of a beginner does, in each game."""
    save = "    agent.model.save_weights(part)\n"
    (folder / "dqn.py").write_text(edited(
        ("    agent = DQNAgent(env)\n",
         f"    env._max_episode_steps = {limit}\n    agent = DQNAgent(env)\n"),
        (save, "    np.save('memory.npy', np.array(agent.memory, dtype=object))\n"
         "    np.save('scores.npy', scores)\n" + save)))
    assert run(folder, "--episodes", "10")[1][-1].endswith(f"epsilon: {.995 ** (9 * 4):.2f}")
    memory = np.load(folder / "memory.npy", allow_pickle=True)
    scores = np.load(folder / "scores.npy")
    ends = np.cumsum(scores) - 1
    assert len(memory) == sum(scores)
    assert max(scores) == 5 if limit == 5 else 8 < max(scores) < 500
    dead = [i for i, done in enumerate(memory[:, 4]) if done]
    assert dead == ([] if limit == 5 else ends.tolist())
    assert all(reward == (-100 if done else 1) for _, _, reward, _, done in memory)
    for i in set(range(len(memory) - 1)) - set(ends):
        assert np.array_equal(memory[i, 3], memory[i + 1, 0])


@pytest.mark.parametrize("wish, epsilon, solved", [
    ((0.1, 0.2, 1, 0.5), 0, True),  # a good player
    ((0, 0, 1, 0.5), 0, False),  # lasts 500 frames in 100 of 100 games, but drifts away
    ((0.1, 0.2, 1, 0.5), 1, False)])  # a good player who has not yet played well: no luck counts
def test_solved_is_100_good_games_of_training_and_an_exam(agent, folder, wish, epsilon, solved):
    weights = linear(agent, *wish)
    agent.model.set_weights(weights)
    agent.model.save_weights(folder / "given.weights.h5")
    lasts = fresh(folder / "given.weights.h5", 100, 5000)[0]
    assert lasts.min() >= 500 and (lasts.min() == 5000) == any(wish[:2])
    (folder / "dqn.py").write_text(edited(playing(folder, weights, epsilon)))
    code, out, err = run(folder, "--episodes", "110")
    assert (code, len(out)) == ((0, 101) if solved else (1, 110))
    assert (folder / "save/cartpole-dqn.weights.h5").exists() == solved


@pytest.mark.parametrize("games", [2, 20])
def test_ctrl_c_keeps_what_was_learnt_and_says_so_and_saving_is_not_stopped(folder, games):
    solution, save = with_solution(folder), "    agent.model.save_weights(part)\n"
    (folder / "dqn.py").write_text(edited((save, "    os.kill(os.getpid(), 2)\n" + save)))
    process = start(folder)
    for _ in range(games):
        process.stdout.readline()
    time.sleep(np.random.random() / 10)  # in a game, or in a replay
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    unsolved = folder / "save/cartpole-dqn.unsolved.weights.h5"
    assert process.returncode == 1 and len(err.splitlines()) == 1 and str(unsolved) in err, err
    assert err.startswith("not solved after") and fresh(unsolved, 10, 500)[0].mean() < 500
    assert solution.read_bytes() == SOLUTION.read_bytes()
    assert sorted(os.listdir(folder / "save")) == [
        "cartpole-dqn.unsolved.png", unsolved.name, solution.name]


@pytest.mark.parametrize("place", ["    agent.model.save_weights(part)\n", "    os.replace("])
def test_kill_9_while_saving_leaves_the_old_file_and_nothing_for_git(folder, agent, place):
    solution = with_solution(folder)
    (folder / "dqn.py").write_text(edited(
        playing(folder, linear(agent, 0.1, 0.2, 1, 0.5)),
        (place, f"    os.kill(os.getpid(), 9)\n{place}")))
    assert run(folder)[0] == -9 and solution.read_bytes() == SOLUTION.read_bytes()
    shutil.copy(ROOT / ".gitignore", folder)
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    status = ["git", "status", "--short", "--untracked-files=all", "save"]
    left = subprocess.check_output(status, cwd=folder, text=True)
    assert left == "?? save/cartpole-dqn.weights.h5\n"


def test_two_runs_at_once(folder):
    both = [start(folder, "--episodes", "5", "--seed", seed) for seed in "12"]
    assert [process.wait() for process in both] == [1, 1]
    fresh(folder / "save/cartpole-dqn.unsolved.weights.h5", 1, 500)
    assert len(os.listdir(folder / "save")) == 2


def test_watch_writes_an_animation(folder):
    with_solution(folder)
    assert run(folder, "--gif", "play it.gif") == (0, ["score: 500"], [])
    with Image.open(folder / "play it.gif") as gif:
        assert gif.size == (600, 400) and gif.n_frames > 100
        first = np.asarray(gif.convert("RGB")).astype(int)
        gif.seek(gif.n_frames // 2)
        moved = np.abs(first - np.asarray(gif.convert("RGB"))).max(axis=2) > 50
    assert 50 < moved.sum() < 20_000  # the cart and the pole, not the whole picture
    assert (folder / "play it.gif").stat().st_size < 1_000_000


def test_watch_plays_at_the_game_s_own_speed_until_ctrl_c(folder):
    with_solution(folder)
    process = start(folder, "--watch", SDL_VIDEODRIVER="dummy")
    began = time.monotonic()
    assert process.stdout.readline() == "episode: 0/1000, score: 500\n"
    assert time.monotonic() - began > 500 / 50
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=10)[1] == "" and process.returncode == 0


@pytest.mark.skipif(not shutil.which("Xvfb"), reason="Xvfb is not installed")
@pytest.mark.parametrize("option", ["--watch", "--render"])
def test_a_real_window_opens_plays_and_closes_within_the_game(folder, option):
    xlib = pytest.importorskip("Xlib.display", reason="python-xlib is not installed")
    from Xlib.protocol.event import ClientMessage
    weights = agent_with(with_solution(folder)).weights
    (folder / "dqn.py").write_text(edited(playing(folder, weights)))
    server = subprocess.Popen(["Xvfb", "-displayfd", "1", "-screen", "0", "800x600x24"], text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        name = ":" + server.stdout.readline().strip()
        process = start(folder, option, DISPLAY=name)
        assert process.stdout.readline().startswith("episode: 0/1000, score: ")
        display = xlib.Display(name)
        window, = display.screen().root.query_tree().children
        picture = window.get_image(0, 0, 600, 400, 2, 0xffffffff)  # 2: the format ZPixmap
        colours, counts = np.unique(np.frombuffer(picture.data, "uint32") & 0xffffff,
                                    return_counts=True)
        assert colours[np.argmax(counts)] == 0xffffff and 0xca9865 in colours  # sky and pole
        time.sleep(1)  # the next game lasts 10 seconds
        close = [display.intern_atom("WM_DELETE_WINDOW"), 0, 0, 0, 0]  # a click on the cross
        window.send_event(ClientMessage(window=window, data=(32, close),
                                        client_type=display.intern_atom("WM_PROTOCOLS")))
        display.flush()
        began = time.monotonic()
        out, err = process.communicate(timeout=30)
        assert time.monotonic() - began < 5 and out == ""
        assert process.returncode == (option == "--render") == len(err.splitlines())
    finally:
        server.kill()


def test_the_old_gym_learns_the_same_with_three_changes(folder):
    pytest.importorskip("gym_notices")
    new, old = run(folder, "--episodes", "30"), (
        ("import gymnasium as gym", "import gym"),
        ("render_mode=mode)", "render_mode=mode, disable_env_checker=True)"),
        ("gym.make_vec('CartPole-v1', 200,",
         "gym.vector.make('CartPole-v1', 200, asynchronous=False, disable_env_checker=True,"))
    (folder / "dqn.py").write_text(edited(*old))
    assert run(folder, "--episodes", "30") == new and len(new[1]) == 30
    player = playing(folder, agent_with(with_solution(folder)).weights)
    (folder / "dqn.py").write_text(edited(*old, player))
    assert run(folder, "--gif", "play.gif") == (0, ["score: 500"], [])
    assert len(run(folder)[1]) == 101  # through the exam


@pytest.mark.parametrize("args", ["--episodes x", "--seed x", "--fast", "--gif"])
def test_wrong_commands_end_with_one_line_and_exit_code_2(monkeypatch, capsys, args):
    monkeypatch.setattr(sys, "argv", ["dqn.py", *args.split()])
    with pytest.raises(SystemExit) as error:
        dqn.options()
    out, err = capsys.readouterr()
    assert (error.value.code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("dqn.py: error:") and args.split()[0] in err


def test_help_shows_the_usage_and_makes_no_folder(folder):
    (folder / "save").rmdir()
    code, out, err = run(folder, "--help")
    assert (code, err, os.listdir(folder)) == (0, [], ["dqn.py"]) and "usage: dqn.py" in out[0]


@pytest.mark.parametrize("args, said", [
    ("--watch", "--gif FILE"), ("--render", "--gif FILE"), ("--weights /proc/no/x", "/proc/no"),
    ("--weights nowhere/x", "nowhere"), ("--gif nowhere/x.gif", "nowhere"),
    ("--episodes 0", "no game"), *((f"--gif x.gif --weights {name}.weights.h5", name)
                                   for name in "missing empty truncated text foreign".split())])
def test_trouble_ends_before_it_costs_time_with_one_line_and_exit_code_1(folder, args, said):
    good = with_solution(folder).read_bytes()
    (folder / "empty.weights.h5").write_bytes(b"")
    (folder / "truncated.weights.h5").write_bytes(good[:len(good) // 2])
    (folder / "text.weights.h5").write_bytes(b"balance the pole\n" * 1000)
    if said == "foreign":
        layers = [dqn.keras.Input((4,)), *map(dqn.Dense, (24, 24, 2))]
        dqn.keras.Sequential(layers).save_weights(folder / "foreign.weights.h5")
    code, out, err = run(folder, *args.split())
    assert (code, out, len(err)) == (1, [], 1) and not (folder / "x.gif").exists()
    assert err[0].startswith("dqn.py: ") and said in err[0] and len(err[0]) > 25
