"""What dqn.py promises: the agent does what the post says, the script what the README says."""
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from benchmark import (  # before NumPy: it sets the number of threads
    ACROBOT, BURST, LOSSES_BACK, NO_STOP, PLAYER, ROOT, ROWS, STAGES, UPRIGHT, agent_with, dqn,
    numbers_in, patched, won_of)

import numpy as np
import pictures
import pytest
from gymnasium.utils import seeding
from keras import Input, Sequential, layers
from PIL import Image, ImageSequence

REPLAYS = 64  # after a lost game
LINE = re.compile(r"episode: \d+/\d+, score: \d+, mean of last 100: \d+\.\d, epsilon: [01]\.\d\d")
ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in (
    "DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER", "PYTHONUNBUFFERED")}


@pytest.fixture(autouse=True)
def same_games(monkeypatch):
    """A game that is reset without a seed starts alike in each test run."""
    np_random = seeding.np_random
    monkeypatch.setattr(seeding, "np_random", lambda seed=None: np_random(seed or 0))


@pytest.fixture
def agent():
    dqn.keras.utils.set_random_seed(0)
    return dqn.DQNAgent(dqn.gym.make("CartPole-v1"))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working directory: the script and the player in save/, its name not free of blanks."""
    folder = tmp_path / "a clone"
    (folder / "save").mkdir(parents=True)
    shutil.copy(ROOT / "dqn.py", folder)
    shutil.copy(PLAYER, folder / "save")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def play_script(monkeypatch, folder):
    """A function that runs the script's main block here: its exit code, and its variables."""
    def play(*args):
        monkeypatch.setattr(sys, "argv", ["dqn.py", *map(str, args)])
        try:
            return 0, runpy.run_path("dqn.py", run_name="__main__")
        except SystemExit as end:
            trace = end.__traceback__
            while trace.tb_next:
                trace = trace.tb_next
            return end.code or 0, trace.tb_frame.f_globals
    return play


def start(*command, **environment):
    return subprocess.Popen([sys.executable, *map(str, command)], env=ENVIRONMENT | environment,
                            text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def end(process):
    """Wait for the script's end: its exit code, the lines on stdout, and its own on stderr."""
    out, err = process.communicate(timeout=300)
    assert "Traceback" not in err, err
    lines = [line for line in err.splitlines() if not re.match("[IWE]0000 |WARNING: All log", line)]
    return process.returncode, out.splitlines(), lines


def fill(agent, count, seed=1, shape=(1, 4), **given):
    """Let the agent remember made-up frames, and return them."""
    random = np.random.default_rng(seed)
    for _ in range(count):
        state, next_state = np.float32(random.normal(size=(2, *shape)))
        each = dict(state=state, action=np.int64(random.integers(2)), reward=1.0,
                    next_state=next_state, done=False)
        agent.remember(**{**each, **given})
    return list(agent.memory)[-count:]


def same(weights, others):
    return all(map(np.array_equal, weights, others))


def assert_predict_is_model_predict(agent):
    states = np.float32(np.random.default_rng(2).normal(size=(50, 4)))
    answers = agent.predict(states)
    np.testing.assert_allclose(
        answers, agent.model.predict(states, verbose=0), rtol=1e-4, atol=1e-3)
    return answers


def test_the_post_s_names_and_numbers(agent):
    assert (agent.epsilon, agent.epsilon_decay, agent.epsilon_min) == (1, .995, 0.1)
    assert agent.gamma == 0.99
    first, rest = fill(agent, 1)[0], fill(agent, 1999)
    assert agent.memory[0] is first and first[0].shape == (1, 4) and fill(agent, 1)
    assert len(agent.memory) == 2000 and agent.memory[0] is rest[0]  # it forgets the oldest
    assert [(layer.units, layer.activation.__name__) for layer in agent.model.layers] == [
        (128, "tanh")] * 3 + [(2, "linear")]
    assert agent.model.loss == "mse" and type(agent.model.optimizer) is dqn.RMSprop
    assert agent.model.optimizer.learning_rate.numpy() == pytest.approx(0.001)


def test_act_explores_at_epsilon_1_and_is_greedy_at_0(agent):
    agent.env.action_space.seed(0)
    states = np.float32(np.random.default_rng(4).normal(size=(200, 1, 4)))
    best = [np.argmax(agent.model(state).numpy()[0]) for state in states]
    assert len(set(best)) == 2
    assert 400 < sum(agent.act(states[0]) for _ in range(1000)) < 600
    agent.epsilon = 0
    assert [agent.act(state) for state in states] == best
    assert [agent.act(state[0]) for state in states] == best  # as Gymnasium gives it, (4,)
    agent.epsilon = 0.1  # a tenth at random, half of which would have been the best anyway
    assert 0.9 < np.mean([agent.act(states[0]) == best[0] for _ in range(2000)]) < 0.99


@pytest.mark.parametrize("shape", [(1, 4), (4,)])
def test_replay_is_one_step_of_keras_on_the_post_s_targets(agent, shape):
    """As the post reads: target = reward, and if not done, + gamma * amax(predict(next_state))."""
    literal = {}
    for state, action, reward, next_state, done in (
            fill(agent, 20, shape=shape)
            + fill(agent, 20, seed=2, shape=shape, done=True, reward=-100)):
        target = reward
        if not done:
            future = np.amax(agent.model(next_state.reshape(1, 4)).numpy()[0])
            target = reward + agent.gamma * future
        target_f = agent.model(state.reshape(1, 4)).numpy()
        target_f[0][action] = target
        literal[state.tobytes()] = target_f[0]
    plain, steps, train_on_batch = dqn.DQNAgent(agent.env).model, [], agent.model.train_on_batch
    plain.set_weights(agent.weights)
    agent.model.train_on_batch = lambda *args: steps.append(args) or train_on_batch(*args)
    for _ in range(30):
        agent.replay(32)
        plain.fit(*steps[-1], verbose=0)
        for both in zip(agent.weights, plain.get_weights(), strict=True):
            np.testing.assert_allclose(*both, atol=1e-4)
        if len(steps) == 1:
            for state, target_f in zip(*steps[0], strict=True):
                np.testing.assert_allclose(
                    target_f, literal[state.tobytes()], rtol=1e-5, atol=1e-5)
    assert {(states.shape, targets.shape) for states, targets in steps} == {((32, 4), (32, 2))}
    assert agent.model.optimizer.iterations.numpy() == 30
    assert {state.tobytes() for states, _ in steps for state in states} == set(literal)


def test_replay_draws_all_from_a_short_memory_and_epsilon_falls_to_its_minimum(agent):
    fill(agent, 1)
    batches = []
    agent.model.train_on_batch = lambda *args: batches.append(len(args[0]))
    epsilons = [agent.replay(32) or agent.epsilon for _ in range(1500)]
    assert batches == [1] * 1500
    assert epsilons[:2] == pytest.approx([agent.epsilon_decay, agent.epsilon_decay ** 2])
    assert agent.epsilon_decay * agent.epsilon_min < epsilons[-1] <= agent.epsilon_min


@pytest.mark.parametrize("renew", [
    lambda agent: agent._build_model(),
    lambda agent: agent.model.compile(loss="huber", optimizer=dqn.keras.optimizers.Adam(0.01)),
    lambda agent: agent.load(PLAYER)])
def test_training_and_playing_go_on_with_what_a_student_puts_in_place(agent, renew):
    fill(agent, 40)
    agent.replay(32)
    renew(agent)
    before = assert_predict_is_model_predict(agent)
    agent.replay(32)
    assert not np.allclose(before, assert_predict_is_model_predict(agent), atol=1e-4)


def test_load_plays_the_file_s_weights_without_exploring_at_the_agent_s_own_rate(agent):
    agent.learning_rate = 0.5
    agent._build_model()
    agent.load(PLAYER)
    assert agent.epsilon == 0 and agent.model.optimizer.learning_rate.numpy() == 0.5
    assert won_of(agent, 100) >= 90


@pytest.mark.parametrize("hidden, error", [
    ([layers.Dense(24, "relu"), layers.Dense(24, "relu")], None), ([layers.Dense(7, "tanh")], None),
    ([], None), ([layers.Dense(8, "elu")], KeyError), ([layers.Dropout(.2)], AttributeError),
    ([layers.Dense(8), layers.Activation("tanh")], ValueError),
    ([layers.Dense(2, "tanh", use_bias=False), layers.Dense(2, "tanh", use_bias=False)], ValueError)
])
def test_another_network_works_or_complains(hidden, error):
    class Student(dqn.DQNAgent):
        def _build_model(self):
            self.model = Sequential([Input((4,)), *hidden, layers.Dense(2)])
            self.model.compile(loss="mse", optimizer="rmsprop")
            self.weights = self.model.get_weights()

    agent = Student(dqn.gym.make("CartPole-v1"))
    fill(agent, 5)
    if error:
        with pytest.raises(error) as raised:
            agent.replay(32)
        assert "See predict" in str(raised.traceback[-1].statement)  # the traceback shows the line
    else:
        agent.replay(32)
        assert_predict_is_model_predict(agent)


def test_training_ends_with_a_player_and_prints_nothing_but_its_own_lines(folder):
    """Also where the user's own settings are for other programs."""
    shutil.rmtree("save")
    Path("keras.json").write_text('{"floatx": "float16", "backend": "jax"}')
    code, (first, *out, last), err = end(start(
        "dqn.py", KERAS_HOME=".", MPLBACKEND="module://matplotlib_inline.backend_inline"))
    games = [line for line in out if not line.startswith("exam: ")]
    scores = [int(score) for score in numbers_in("\n".join(games), "score").split()]
    assert (code, err) == (0, []) and all(map(LINE.fullmatch, games))
    assert "save/cartpole-dqn.unsolved.weights.h5" in first
    assert last == (
        f"solved after {len(games)} games; the player is in save/cartpole-dqn.weights.h5")
    assert [line.split()[1] for line in games] == [f"{e}/1000," for e in range(len(games))]
    assert f"{np.mean(scores[-100:]):.1f}" == re.search("100: (.*),", games[-1])[1]
    assert np.mean(scores[-100:]) >= 475 and out[-1] == "exam: 100 of 100 games won"
    assert sorted(os.listdir("save")) == [
        f"cartpole-dqn.{kind}" for kind in ("png", "unsolved.weights.h5", "weights.h5")]
    picture = np.asarray(Image.open("save/cartpole-dqn.png").convert("RGB"))
    assert picture.shape[1] >= 600 and len(np.unique(picture.reshape(-1, 3), axis=0)) > 50
    assert won_of(agent_with("save/cartpole-dqn.weights.h5"), 100) >= 90


def test_same_seed_same_training_another_seed_another(play_script, capsys):
    lines, weights = [], []
    for name, seed in ("a", 7), ("b", 7), ("new/c.weights.h5", 8):
        code, known = play_script("--episodes", 12, "--seed", seed, "--weights", name)
        file = f"{name.removesuffix('.weights.h5')}.unsolved.weights.h5"
        assert code == f"not solved after 12 games; its weights are in {file}"
        lines.append(capsys.readouterr().out.splitlines()[1:])
        weights.append(agent_with(file).weights)
        assert same(weights[-1], known["agent"].weights)
    assert len(lines[0]) == 12 and lines[0] == lines[1] != lines[2]
    assert same(weights[0], weights[1])


@pytest.mark.parametrize("limit", [5, 500])
def test_dying_is_remembered_as_done_and_time_that_is_up_is_not(play_script, monkeypatch, limit):
    """No pole falls within 5 frames; within 500, that of a beginner does, in each game."""
    make = dqn.gym.make
    monkeypatch.setattr(dqn.gym, "make", lambda *args, **options: make(
        *args, **options, max_episode_steps=limit))
    _, known = play_script("--episodes", 4)
    agent, scores = known["agent"], known["scores"]
    memory, ends = agent.memory, np.cumsum(scores) - 1
    assert len(memory) == sum(scores)
    assert max(scores) == 5 if limit == 5 else 8 < max(scores) < 500
    # REPLAYS replays after a lost game, none after a won one
    assert agent.model.optimizer.iterations.numpy() == (0 if limit == 5 else 4 * REPLAYS)
    assert [i for i, frame in enumerate(memory) if frame[4]] == ([] if limit == 5 else list(ends))
    assert all(reward == (-100 if done else 1) for _, _, reward, _, done in memory)
    for i in range(len(memory) - 1):  # a game is one chain of states, and the next one a new chain
        assert np.array_equal(memory[i][3], memory[i + 1][0]) == (i not in ends)


@pytest.mark.parametrize("lost", [0, 2])
def test_solved_is_100_good_games_and_an_exam_which_when_lost_is_replayed(
        play_script, monkeypatch, capsys, lost):
    """After game 1 the agent balances; in its first exams each push has no force."""
    def balance(model, states, targets):
        weights = [np.zeros_like(weight) for weight in model.get_weights()]
        weights[0][:, 0] = np.array([0.1, 0.2, 1, 0.5]) / 100  # tanh of so little is itself
        weights[2][0, 0] = weights[4][0, 0] = weights[6][0, 1] = 1
        model.set_weights(weights)

    def make_vec(*args):
        games, forces = Games(*args), iter([10] + [0] * lost + [10] * 9)
        reset = games.reset

        def with_force(**seed):
            games.unwrapped.force_mag = next(forces)
            return reset(**seed)

        games.reset = with_force
        return games

    Games = dqn.gym.make_vec
    monkeypatch.setattr(dqn.gym, "make_vec", make_vec)
    monkeypatch.setattr(dqn.keras.Model, "train_on_batch", balance)
    monkeypatch.setattr(np.random, "rand", lambda: 2)  # never explore
    code, known = play_script("--episodes", 106, "--weights", "its")
    exams = [line for line in capsys.readouterr().out.splitlines() if line.startswith("exam: ")]
    assert exams == ["exam: 0 of 100 games won"] * lost + ["exam: 100 of 100 games won"]
    assert code == 0 and same(agent_with("its.weights.h5").weights, known["agent"].weights)
    losses = sum(score < 500 for score in known["scores"]) + lost
    decay = known["agent"].epsilon_decay
    assert known["agent"].epsilon == pytest.approx(max(.1, decay ** (REPLAYS * losses)))


def test_the_exam_s_games_are_others_than_the_training_s(play_script):
    _, known = play_script("--episodes", 0, "--seed", 3)
    known["env"].reset(seed=3)
    training = {number for _ in range(1000) for number in known["env"].reset()[0]}
    exams = {number for _ in range(10) for number in known["exam"].reset()[0].flat}
    assert len(exams) > 3900 and len(training & exams) < 10


def test_two_trainings_with_one_name_end_each_with_whole_weights(folder):
    patched_py = patched([("if len(scores) % 10 == 0:", "for _ in range(20):")])  # save more often
    Path("dqn.py").write_text(patched_py)
    both = [start("dqn.py", "--episodes", 6, "--seed", seed) for seed in (1, 2)]
    for process in both:
        code, _, (line,) = end(process)
        assert code == 1 and line.startswith("not solved after 6 games")
    assert sorted(os.listdir("save")) == [
        f"cartpole-dqn.{kind}" for kind in ("unsolved.png", "unsolved.weights.h5", "weights.h5")]
    agent_with("save/cartpole-dqn.unsolved.weights.h5")
    assert Path("save", PLAYER.name).read_bytes() == PLAYER.read_bytes()


def test_save_refuses_a_name_that_load_would_not_read(agent, folder):
    for name in "x.h5", "x.keras", "save/x":
        with pytest.raises(ValueError, match="weights.h5"):
            agent.save(name)
    assert set(os.listdir()) == {"save", "dqn.py"} and os.listdir("save") == [PLAYER.name]


@pytest.mark.skipif(not os.path.exists("/proc"), reason="there, not even root can write a file")
def test_a_folder_for_no_files_is_found_before_the_first_game(play_script, capsys):
    with pytest.raises(OSError):
        play_script("--weights", "/proc/its")
    assert "episode" not in capsys.readouterr().out


def test_a_killed_training_leaves_its_weights_and_the_older_player(folder):
    older = shutil.copy(PLAYER, "save/cartpole-dqn.unsolved.weights.h5")
    process = start("dqn.py")
    while not process.stdout.readline().startswith("episode: 5/"):  # at once, also into a pipe
        pass
    assert Path(older).read_bytes() == PLAYER.read_bytes()  # until after game 9
    while not process.stdout.readline().startswith("episode: 21/"):
        pass
    process.kill()
    process.communicate()
    assert sorted(os.listdir("save")) == ["cartpole-dqn.unsolved.weights.h5", PLAYER.name]
    assert Path("save", PLAYER.name).read_bytes() == PLAYER.read_bytes()
    assert not same(agent_with("save/cartpole-dqn.unsolved.weights.h5").weights,
                    agent_with(PLAYER).weights)


@pytest.mark.parametrize("driver", ["", "x11"])  # none, and one that is absent
def test_gif_is_an_animation_of_one_game_and_needs_no_screen(play_script, driver):
    code, out, err = end(start("dqn.py", "--gif", "play it.gif", SDL_VIDEODRIVER=driver))
    said, = out
    score = int(numbers_in(said, "score"))
    assert (code, err) == (0, []) and said.endswith(" played by save/cartpole-dqn.weights.h5")
    with Image.open("play it.gif") as picture:
        assert picture.size == (600, 400) and picture.n_frames > 100
        durations = [frame.info["duration"] for frame in ImageSequence.Iterator(picture)]
        assert sum(durations) == 20 * score and min(durations) == 20  # equal images become one
        picture.seek(0)
        first = np.asarray(picture.convert("RGB")).astype(int)
        picture.seek(picture.n_frames // 2)
        moved = np.abs(first - np.asarray(picture.convert("RGB"))).max(axis=2) > 50
    assert 50 < moved.sum() < 20_000  # the cart and the pole, not the whole picture
    assert os.path.getsize("play it.gif") < 1_000_000


def test_watch_shows_each_frame_once_and_closes_the_window(play_script, monkeypatch, capsys):
    calls, unwrapped = [], dqn.gym.make("CartPole-v1").unwrapped.__class__
    for name in "render", "close":
        monkeypatch.setattr(unwrapped, name, lambda env, name=name: calls.append(name))
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    code, _ = play_script("--watch")
    assert code == 0 and capsys.readouterr().out.startswith("score: 500, ")
    assert calls.count("render") == 501 and calls[-1] == "close"


@pytest.mark.parametrize("driver", ["offscreen", "x11"])
def test_watch_without_a_screen_ends_with_one_line(play_script, monkeypatch, driver):
    import pygame
    pygame.display.quit()
    monkeypatch.setenv("SDL_VIDEODRIVER", driver)
    monkeypatch.delenv("DISPLAY", raising=False)
    code, _ = play_script("--watch")
    assert code.startswith("dqn.py: ") and "\n" not in code
    assert "--gif FILE" in code if driver == "offscreen" else "x11" in code


@pytest.mark.parametrize("args", [
    "--episodes x", "--seed x", "--fast", "--gif", "--gif save/cartpole-dqn.weights.h5"])
def test_a_wrong_command_ends_with_exit_code_2(play_script, capsys, args):
    code, _ = play_script(*args.split())
    assert code == 2 and args.split()[0] in capsys.readouterr().err.splitlines()[-1]
    assert Path("save", PLAYER.name).read_bytes() == PLAYER.read_bytes()


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("what", ["missing", "empty", "truncated", "text", "foreign"])
def test_weights_that_cannot_be_loaded_end_with_one_line(play_script, what):
    file, good = Path("its.weights.h5"), PLAYER.read_bytes()
    if what == "foreign":
        Sequential([Input((4,)), *map(layers.Dense, (24, 24, 2))]).save_weights(file)
    elif what != "missing":
        file.write_bytes({"empty": b"", "truncated": good[:len(good) // 2],
                          "text": b"balance the pole\n" * 1000}[what])
    code, _ = play_script("--gif", "x.gif", "--weights", "its")
    assert code.startswith("dqn.py: ") and "\n" not in code and not os.path.exists("x.gif")
    assert what != "foreign" or "another network?" in code


def test_import_leaves_the_program_s_settings_alone_and_needs_no_jax():
    program = "import os; os.environ['MPLBACKEND'] = 'svg'; before = dict(os.environ); import dqn;"
    program += "print(sorted(set(os.environ.items()) ^ set(before.items())))"
    code, out, _ = end(start("-c", program, PYTHONPATH=str(ROOT), KERAS_BACKEND="jax"))
    assert code == 0 and not re.search("MPLBACKEND|THREADS|LOG_LEVEL|CUDA|SDL|PYGAME", out[0])


def test_each_row_of_the_experiment_is_a_change_of_lines_that_are_there():
    dqn_py = (ROOT / "dqn.py").read_text()
    for name, patches in [("Acrobot", ACROBOT), ("burst", BURST), ("shipped", STAGES),
                          *((row, NO_STOP + ROWS[row][0]) for row in ROWS)]:
        compile(patched(patches), "dqn.py", "exec")
        assert name in ("Acrobot", "`relu`") or all(dqn_py.count(old) == 1 for old, _ in patches)
    compile(patched(BURST + LOSSES_BACK), "dqn.py", "exec")
    with pytest.raises(AssertionError):
        patched([("self.gamma = 0.98", "self.gamma = 0.9")])


def test_the_readme_s_snippet_asks_the_player(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    snippet, = re.findall("```python\n(import.*?)```", Path("README.md").read_text(), re.DOTALL)
    exec(snippet, {})
    left, right, action = map(float, re.findall(r"-?[\d.]+", capsys.readouterr().out))
    assert action == (right > left)


def test_the_readme_s_lines_go_on_with_a_training(play_script, folder):
    text = (ROOT / "README.md").read_text()
    lines, = re.findall("```python\n(    agent.load.*?)```", text, re.DOTALL)
    shutil.copy(PLAYER, "save/cartpole-dqn.unsolved.weights.h5")
    made = "    agent = DQNAgent(env)\n    # Not in the post: 100"
    Path("dqn.py").write_text(patched([(made, made.replace("    # Not", f"{lines}    # Not"))]))
    _, known = play_script("--episodes", 4)
    assert known["agent"].epsilon <= .1 and np.mean(known["scores"]) > 200  # a beginner's are 20


def test_the_readme_s_figures_are_those_of_the_runs():
    def bar(row):
        return re.sub("^0", "none", pictures.reached(row))

    def late(row):
        return f"{np.mean(list(pictures.later(row).values())):.0f}"

    def next_won(row):
        return pictures.next_won(row).split("%")[0]

    def still_won(replays):
        return pictures.still_won("as it is", replays).split()[0]

    def few(replays):
        return pictures.skilled(f"{replays} replays after a loss, `epsilon` as fast").split()[0]

    lines, past = pictures.read("seeds"), pictures.past()
    ours = pictures.games_to_bar(pictures.OURS)
    more = [n - ours[seed] for seed, n in pictures.games_to_bar("a memory of everything").items()]
    games, won = ([int(line[name]) for line in lines] for name in ("games", "won"))
    shipped = pictures.read("shipped")[0]["stdout"].splitlines()
    of_ours = [line for line in pictures.BURST if line["changed"] == pictures.OURS]
    lost = [lost for scores in pictures.runs(pictures.OURS).values()
            for before, lost in zip(scores[200:], scores[201:400]) if before < 500]
    falling = np.isclose(UPRIGHT, [0, 0, np.radians(-10), -2]).all(axis=1)
    values = np.load(ROOT / "tests/results/shipped.npz")["end Q"]
    text = (ROOT / "README.md").read_text()
    words = " ".join(text.split())
    after_wins, other = "replays after won games, too", pictures.SHRINKING
    for sentence in (
            f"games 301 to 400 last {late(pictures.POST)} of 200 frames in the mean",
            f"With all, as in the post, the mean of 475 comes {np.mean(more):.0f} games later.",
            f"is won in {next_won(pictures.OURS)} of 100 cases, as its network has not changed; "
            f"if `replay` runs after won games, too, in {next_won(after_wins)} (games 201 to 400)",
            f"64 replays, the next is won in {100 * np.mean(np.equal(lost, 500)):.0f} of 100.",
            f"In these 200 trials, {still_won(1)} still won all of 100 games after one replay, "
            f"{still_won(8)} after eight, and {still_won(64)} after 64. "
            f"Another {pictures.ruined('as it is')} then lost more than half",
            f"differ by {pictures.median(pictures.before(pictures.OURS, 'gap')):.2f} in the median",
            f"{pictures.turned(100, 100):.0f}% of all in players that still win, "
            f"{pictures.turned(0, 49):.0f}% in ruined ones.",
            f"it saves {pictures.still_won('smaller steps')}, not {still_won(64)}.)",
            f"put back, {pictures.still_won('as it is', 64, pictures.WITH_LOSSES)} still won all, "
            f"not {still_won(64)}.",
            f"difference moved by {pictures.middle('smaller steps, moved', other):.2f}, and "
            f"{pictures.still_won('smaller steps', 64, other)} still won all; with plain RMSprop "
            f"it moved by {pictures.middle('as it is, moved', other):.2f}, and "
            f"{pictures.still_won('as it is', 64, other).split()[0]} did.",
            f"| nothing else | {next_won(after_wins)}% | {pictures.skilled(after_wins)} |",
            *(f"| {next_won(row)}% | {pictures.skilled(row)} |" for row in pictures.ROWS
              if row.startswith("after wins")),
            f"that it even overrates: up to {values.max():.0f}.",
            f"The network says {values[falling].max():.0f}.",
            f"after {np.median(games):g} games in the median and {max(games)} at most",
            f"{won.count(100)} of these players win all of another 100 games; one loses one",
            "went on after the bar (the picture): their next 200 games score "
            f"{np.mean(past):.0f} in the mean, {min(past):.0f} with the worst",
            f"{bar('`gamma` .9')} seeds reach the bar. With .99, after 459. With 1, never; "
            f"{bar('`gamma` 1')} seeds.",
            f"(8 calls: {few(8)} of 10 seeds win all; 16 or 32: {few(16)}.)",
            f"{bar('a target network')} reach the bar, without it {bar(pictures.OURS)}: no proved"):
        assert sentence.replace(" 0.", " .") in words, sentence
    assert {line["solved"] for line in lines} == {"True"} and len(lines) == 60
    gap = pictures.median(pictures.before(pictures.OURS, "gap"))
    assert abs(gap - pictures.middle("as it is, moved")) < .01  # README: as much
    draws = [pictures.numbers(line, "as it is, won after 64") for line in of_ours]
    assert len(past) == 40 and any(won == [100] * 10 and np.median(pictures.numbers(
        line, "as it is, turned")) > .47 for won, line in zip(draws, of_ours))
    assert few(16) == few(32) and min(won) == 99 and len(of_ours) == 20
    assert {bar(row) for row in pictures.ROWS if "the same" in row} == {"none of 10"}  # RESULTS.md
    for row in after_wins, "`epsilon` falls once a lost game":
        assert bar(row) == "none of 20"
    sample, = (block for block in text.split("```\n") if "episode: 0/" in block)
    assert set(sample.splitlines()) - {"..."} <= set(shipped)
