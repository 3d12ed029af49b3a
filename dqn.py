"""Deep Q Learning with Keras and Gym: the script of Keon Kim's blog post of 2017, which now learns.

Read it beside the post. `post:` marks what stands there instead, `not in the post` what it lacks;
what Keras 3 and Gymnasium only spell otherwise has no mark. README.md gives the reasons.
"""
import argparse
import copy
import os
import signal
import sys
import tempfile
from collections import deque
from pathlib import Path

os.environ.update(  # not in the post: the packages read these when they are imported
    KERAS_BACKEND="tensorflow", MPLBACKEND="agg",  # whatever has been set before
    TF_NUM_INTRAOP_THREADS="1", OPENBLAS_NUM_THREADS="1",  # so small a network wants one thread
    TF_CPP_MIN_LOG_LEVEL="3", PYGAME_HIDE_SUPPORT_PROMPT="1",  # fewer lines that are not ours
    SDL_FRAMEBUFFER_ACCELERATION="0")  # else the window may crash

import gymnasium as gym
import keras
import numpy as np
import pygame  # with which gymnasium makes the window
import tensorflow as tf
from keras.layers import Dense
from keras.optimizers import RMSprop
from matplotlib.figure import Figure
from PIL import Image

PLAYER = str(Path(__file__).with_name("save") / "cartpole-dqn")  # where the weights are saved


# Deep-Q learning Agent
class DQNAgent:
    """The agent of "Putting It All Together". A state has the shape (1, 4), n of them (n, 4)."""
    def __init__(self, env):
        self.env = env
        self.memory = deque(maxlen=2000)  # only the latest frames; post: [], all of them
        self.gamma = 0.99  # decay rate: how much a later reward counts; post: 0.9
        self.epsilon = 1  # exploration
        self.epsilon_decay = .995  # in each replay: 8 times after a lost game; post: once a game
        self.epsilon_min = 0.1
        self.learning_rate = 0.0001
        self._build_model()

    def _build_model(self):
        model = keras.Sequential()
        model.add(keras.Input(shape=(4,)))
        model.add(Dense(128, activation='tanh'))
        model.add(Dense(128, activation='tanh'))
        model.add(Dense(128, activation='tanh'))
        model.add(Dense(2, activation='linear'))
        model.compile(loss='mse', optimizer=RMSprop(learning_rate=self.learning_rate))
        model.optimizer.build(model.trainable_variables)  # not in the post: else fit compiles twice
        self.model = model
        self.weights = model.get_weights()  # not in the post: for our own predict, below

    def remember(self, state, action, reward, next_state, done):
        """Append one frame to the memory ("Remember"). done: the game was lost in it."""
        self.memory.append((state, action, reward, next_state, done))

    def act(self, state):
        """Return an action for one state, 0 or 1 ("How The Agent Decides to Act")."""
        if np.random.rand() <= self.epsilon:
            # The agent acts randomly
            return self.env.action_space.sample()  # post: env, the global one
        # Predict the value of each action: its reward, and the future reward
        act_values = self.predict(np.reshape(state, [1, 4]))  # (1, 2); post: self.model.predict
        # Pick the action with the larger value
        return np.argmax(act_values[0])

    def replay(self, batch_size):
        """Train with n = batch_size memories, a multiple of 32 for the steps below ("Replay")."""
        # Sample random indexes of the memory, with repeats. post: at most len(self.memory) of them
        batches = np.random.choice(len(self.memory), batch_size)
        states = np.concatenate([self.memory[i][0] for i in batches])  # (n, 4)
        next_states = np.concatenate([self.memory[i][3] for i in batches])  # (n, 4)
        # Make all predictions before anything is learnt, so that all come from the same network.
        # post: in the loop, by self.model.predict, where each fit changed the ones after it
        future = np.amax(self.predict(next_states), axis=1)  # (n,)
        target_f = self.predict(states)  # (n, 2)
        for row, i in enumerate(batches):
            # Extract informations from i-th index of the memory
            state, action, reward, next_state, done = self.memory[i]
            # if done, the target is the reward alone (-100 penalty)
            target = reward
            if not done:
                # else the discounted future reward is added
                target = reward + self.gamma * future[row]
            # The action taken gets the target, and the other one keeps its prediction
            target_f[row][action] = target
        # Train the Neural Net in steps of 32 states. post: self.model.fit, in steps of one state
        self.fit(states.reshape(-1, 32, 4), target_f.reshape(-1, 32, 2))
        self.weights = self.model.get_weights()  # not in the post: the new ones, for predict
        if self.epsilon > self.epsilon_min:
            self.epsilon *= self.epsilon_decay

    # Not in the post: the rest of the class

    def predict(self, state):
        """Do as model.predict: n states, (n, 4), give (n, 2) values; and one as (4,) gives (2,)."""
        # For one state it takes 0.01 ms, and model.predict 36
        w1, b1, w2, b2, w3, b3, w4, b4 = self.weights
        hidden = np.tanh(state @ w1 + b1)
        hidden = np.tanh(hidden @ w2 + b2)
        hidden = np.tanh(hidden @ w3 + b3)
        return hidden @ w4 + b4

    @tf.function(jit_compile=True)
    def fit(self, states, targets):
        """Do as model.fit with batch_size=32: k steps, (k, 32, 4) states and (k, 32, 2) targets."""
        # Its first call compiles it. Then 64 steps take 4 ms, and with model.fit 180
        for i in tf.range(len(states)):
            self.model.train_step((states[i], targets[i]))

    def load(self, name):
        """Read weights from the file `name` (.weights.h5), or raise one of Keras's errors."""
        self.model.load_weights(name)
        self.weights = self.model.get_weights()
        self.epsilon = self.epsilon_min  # else act would begin at random again

    def save(self, name):
        """Write the weights to the file `name` (.weights.h5), which is never left half written."""
        write_whole(name, self.model.save_weights)


# Not in the post: the functions from here to the training loop

def play(agent, env):
    """Play without exploring one game, or many at once, until the first of them ends.

    Yields for each frame whether a game was lost in it.
    """
    state, _ = env.reset()
    ended = False
    while not ended:
        state, _, terminated, truncated, _ = env.step(np.argmax(agent.predict(state), axis=-1))
        ended = np.any(terminated | truncated)
        yield np.any(terminated)


def window_closed(env):
    """Return whether env has a window, and its cross was clicked."""
    return env.render_mode == "human" and pygame.QUIT in [e.type for e in pygame.event.get()]


def watch(args):
    """Play with saved weights: one game into the animation args.gif, or games in a window."""
    env = gym.make('CartPole-v1', render_mode="rgb_array" if args.gif else "human")
    agent = DQNAgent(env)
    try:
        agent.load(f"{args.weights}.weights.h5")
    except Exception as error:  # missing, or no weights of this network
        sys.exit(f"dqn.py: {args.weights}.weights.h5: {error}".splitlines()[0])
    env.reset(seed=args.seed)
    if args.gif:
        images = [Image.fromarray(env.render()).convert("P", dither=Image.Dither.NONE)
                  for _ in play(agent, env)]
        write_whole(args.gif, lambda part: images[0].save(
            part, "GIF", save_all=True, append_images=images[1:], duration=20, loop=0))
        return say(f"score: {len(images)}")
    for e in range(args.episodes):
        for score, _ in enumerate(play(agent, env), start=1):
            if window_closed(env):
                return
        say(f"episode: {e}/{args.episodes}, score: {score}")


def save_curve(scores, name):
    """Save a picture of the training games' scores, and of the mean of the last 100."""
    axes = Figure(figsize=(8, 4), layout="constrained").subplots()
    means = [np.mean(scores[max(0, e - 99):e + 1]) for e in range(len(scores))]
    axes.plot(scores, "C1.", label="each training game")
    axes.plot(means, "C0", label="mean of the last 100")
    axes.axhline(475, color="C2", linestyle="--", label="Gym's bar")
    axes.set(xlabel="game", ylabel="score (frames survived)")
    axes.legend()
    write_whole(name, axes.figure.savefig)


def write_whole(name, write):
    """Let write(part) make a file, which then becomes the file `name`: the whole file, or none."""
    with tempfile.TemporaryDirectory(dir=Path(name).parent) as folder:
        part = Path(folder, Path(name).name)
        write(part)
        os.replace(part, name)


def say(line):
    """Print the line at once. If that fails, as after `| head`, print no more, but go on."""
    try:
        print(line, flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def options():
    """Return the command line's options, after a trial of what will be saved; else exit with 2."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--watch", action="store_true", help="play with saved weights in a window")
    parser.add_argument("--gif", metavar="FILE", help="play one game with saved weights into FILE")
    parser.add_argument("--render", action="store_const", const="human", help="train in a window")
    parser.add_argument("--episodes", type=int, default=2000, help="play at most so many games")
    parser.add_argument("--seed", type=int, default=0, help="another number, another run")
    parser.add_argument("--weights", metavar="NAME", default=PLAYER,
                        help="save or load NAME.weights.h5")
    args = parser.parse_args()
    args.weights = args.weights.removesuffix(".weights.h5")
    if os.path.isdir(args.weights) or not os.path.basename(args.weights):  # save/, also a new one
        args.weights = os.path.join(args.weights, "cartpole-dqn")
    if args.episodes < 1 or not 0 <= args.seed < 2 ** 32:
        parser.error("--episodes must be 1 or more, --seed from 0 to 4294967295")
    if args.gif is not None and not args.gif.endswith(".gif"):
        parser.error("--gif FILE must end in .gif")
    if not args.gif and (args.watch or args.render):
        pygame.display.init()
        if pygame.display.get_driver() == "offscreen":
            parser.error("there is no screen for a window; --gif FILE needs none")
    if args.gif or not args.watch:
        file = Path(args.gif or f"{args.weights}.unsolved.weights.h5")  # the longest of the names
        try:  # Can a megabyte be written there? Better to know before the training than after it
            file.parent.mkdir(exist_ok=True)
            with tempfile.TemporaryDirectory(dir=file.parent) as folder:
                Path(folder, file.name).write_bytes(bytes(10 ** 6))
        except OSError as error:
            parser.error(f"nothing can be saved as {file}: {error.strerror}")
    return args


if __name__ == "__main__":
    args = options()  # not in the post, nor is playing with saved weights, here
    if args.watch or args.gif:
        try:
            sys.exit(watch(args))
        except (KeyboardInterrupt, OSError) as error:
            sys.exit(f"dqn.py: {str(error) or 'interrupted'}")
    # Not in the post: seeds, here and below, so that a run can be repeated
    keras.utils.set_random_seed(args.seed)
    # initialize gym environment and the agent
    env = gym.make('CartPole-v1', render_mode=args.render)  # post: v0, env.render() in the loop
    env.reset(seed=args.seed)
    env.action_space.seed(args.seed)
    agent = DQNAgent(env)
    # Not in the post: an exam of 100 games at once, of 5,000 frames each
    exam = gym.make_vec('CartPole-v1', 100, max_episode_steps=5000)
    exam.reset(seed=args.seed)
    scores, solved, stopped = [], False, []
    # Not in the post: Ctrl-C is noted, and ends the loop after the game, so that all is saved
    old_handler = signal.signal(signal.SIGINT, lambda *_: stopped.append(True))
    # Iterate the game
    for e in range(args.episodes):
        # reset state in the beginning of each game
        state, _ = env.reset()
        state = np.reshape(state, [1, 4])
        # time_t represents each frame of the game. Our goal is to keep the pole upright as long as
        # possible: the more time_t, the more score
        for time_t in range(5000):  # but CartPole-v1 ends each game after 500; post: v0, after 200
            # Decide action
            action = agent.act(state)
            # Advance the game to the next frame. terminated: it is lost. truncated: 500 frames are
            # over, which is not losing: no -100, and the future counts. post: done, for both
            next_state, reward, terminated, truncated, _ = env.step(action)
            next_state = np.reshape(next_state, [1, 4])
            # reward the agent 1 for every frame it lived, and punish -100 for dying
            reward = -100 if terminated else reward
            # Remember the previous state, action, reward, and whether the game was lost
            agent.remember(state, action, reward, next_state, terminated)
            # make next_state the new current state for the next frame
            state = copy.deepcopy(next_state)
            # The game ends: the pole is dropped, or the time is over
            if terminated or truncated:
                # print the score, the number of frames, and break out of the loop. post: print
                scores.append(time_t + 1)  # post: time_t
                mean = np.mean(scores[-100:])  # not in the post; nor is epsilon, below
                say(f"episode: {e}/{args.episodes}, score: {time_t + 1}, mean of last 100: "
                    f"{mean:.1f}, epsilon: {agent.epsilon:.2f}")
                break
        # Not in the post: stop when it is solved. Gym asks for a mean of 475 over 100 games. Then
        # comes the exam, in which no game may be lost within 5,000 frames; else training goes on
        if len(scores) >= 100 and mean >= 475:
            solved = not any(play(agent, exam))
        if solved or stopped or window_closed(env):
            break
        # train the agent with the experience of the episode. Eight times after a lost game, as each
        # replay carries the news about one frame further back; else, and in the post, once
        for _ in range(8 if terminated else 1):
            agent.replay(2048)  # 64 steps of 32; post: 32
    # Not in the post: save the player; one that did not solve it never replaces one that did
    name = args.weights + ("" if solved else ".unsolved")
    agent.save(f"{name}.weights.h5")
    save_curve(scores, f"{name}.png")
    signal.signal(signal.SIGINT, old_handler)  # for %run and python -i, which go on after this
    option = "" if name == PLAYER else f' --weights "{name}"'
    print(f"to see it play: python dqn.py --watch{option}", file=sys.stderr)
    if not solved:
        sys.exit(f"not solved after {len(scores)} games")
    say(f"solved after {len(scores)} games")
