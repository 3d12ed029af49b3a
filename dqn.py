"""Deep Q Learning with Keras and Gym: Keon Kim's script of 2017, changed so that it learns.

Read it beside the post (keon.github.io/deep-q-learning). `post:` tells what the post's full listing
has in that place; README.md has the reasons. What Keras and Gym changed is mostly not marked.
"""
import argparse
import copy
import os
import sys
import tempfile
from collections import deque

# Not in the post: settings that must stand before the other imports. Skip them at first
os.environ["KERAS_BACKEND"] = "tensorflow"
if __name__ == "__main__":
    os.environ.update(
        CUDA_VISIBLE_DEVICES="-1",  # a network as small as this needs no GPU
        TF_NUM_INTRAOP_THREADS="1", OPENBLAS_NUM_THREADS="1",  # and more threads slow it down
        TF_CPP_MIN_LOG_LEVEL="3", PYGAME_HIDE_SUPPORT_PROMPT="1",  # hide most messages
        SDL_FRAMEBUFFER_ACCELERATION="0")  # else the window crashes on some screens
    # A notebook's !python hands down an MPLBACKEND that can stop Keras's import: replace it by
    # "agg", which draws files only (no plt.show()). With %run, the notebook's own works
    if "ipykernel" not in sys.modules:
        os.environ["MPLBACKEND"] = "agg"

import gymnasium as gym
import keras
import numpy as np
from keras.layers import Dense
from keras.models import Sequential
from keras.optimizers import RMSprop


# Deep-Q learning Agent
class DQNAgent:
    """An agent that learns to play `env` ("Putting It All Together" in the post).

    In each frame of a game it sees a state, an array (1, 4): the cart's position and velocity, the
    pole's angle and angular velocity. Its action pushes the cart: 0 to the left, 1 to the right.
    """
    def __init__(self, env):
        self.env = env
        self.memory = deque(maxlen=2000)  # the latest 2,000 frames; post: [], all frames
        self.gamma = 0.99  # discount rate: a reward a frame later counts .99 of one now; post: 0.9
        self.epsilon = 1  # exploration: the share of random actions
        self.epsilon_decay = .995  # each replay multiplies epsilon by it: 64 a loss; post: 1 a game
        self.epsilon_min = 0.1
        self.learning_rate = 0.001  # step size; _build_model and load read it; post: 0.0001
        self._build_model()

    def _build_model(self):
        # The four numbers of a state go in, guesses of the two actions' Q values come out. An
        # action's Q value is its reward plus all later ones, each times gamma for every frame that
        # it lies ahead, if the better action is taken from then on. So, unless the game is lost, it
        # is the reward plus gamma times the next state's larger Q value: replay teaches just this
        model = Sequential()
        model.add(keras.Input(shape=(4,)))
        model.add(Dense(128, activation='tanh'))
        model.add(Dense(128, activation='tanh'))
        model.add(Dense(128, activation='tanh'))
        model.add(Dense(2, activation='linear'))
        model.compile(loss='mse', optimizer=RMSprop(learning_rate=self.learning_rate))
        self.model = model
        # Not in the post: a copy of the weights, with which predict, below, is much faster than
        # Keras. Repeat the next line after set_weights, load_weights, a fit, or with a new model
        self.weights = self.model.get_weights()

    def remember(self, state, action, reward, next_state, done):
        """Append a frame ("Remember"); states: (1, 4). done: it lost the game; post: or time up."""
        self.memory.append((state, action, reward, next_state, done))

    def act(self, state):
        """Return an action, 0 or 1, for a state, (1, 4) or (4,) ("How The Agent Decides...")."""
        if np.random.rand() <= self.epsilon:
            # Explore: any action may turn out to be better than it looks
            return self.env.action_space.sample()  # post: env, the global one
        # Ask the network for the values of both actions. post: self.model.predict(state)
        act_values = self.predict(np.atleast_2d(state))  # (1, 2)
        # Take the action with the larger one
        return np.argmax(act_values[0])

    def replay(self, batch_size):
        """Train once, on n = batch_size frames (or the memory's length, if less) ("Replay")."""
        # Draw n frames at random, as those in a row are much alike (a frame may come twice).
        # batches is their number, then their positions
        batches = min(batch_size, len(self.memory))
        batches = np.random.choice(len(self.memory), batches)
        states = np.vstack([self.memory[i][0] for i in batches])  # (n, 4)
        next_states = np.vstack([self.memory[i][3] for i in batches])  # (n, 4)
        # Ask the network for all values before it changes. post: in the loop, so that each row sees
        # the changes by the rows before. (In the DQN of 2015 an older copy, the "target network",
        # answers for next_states, so that the targets are steadier. There is none here: after each
        # step self.weights is made equal to the model's)
        future = self.predict(next_states)  # (n, 2)
        target_f = self.predict(states)  # (n, 2), to be corrected for the actions taken
        for row, i in enumerate(batches):
            _, action, reward, _, done = self.memory[i]
            # After a loss nothing follows: the reward is all
            target = reward
            if not done:
                # Otherwise add gamma times the next state's larger value. The sum is a guess, too,
                # but holds a real reward: mostly a better one than the answer for the state
                target = reward + self.gamma * np.amax(future[row])
            # Correct only the action taken. The other keeps the network's answer: an error of 0
            target_f[row][action] = target
        # Move the network's answers closer to target_f, by one step of the optimizer for all rows.
        # post: self.model.fit in the loop, a step for each row (with 64 replays, minutes a game)
        self.model.train_on_batch(states, target_f)
        self.weights = self.model.get_weights()  # else act and the targets never change
        if self.epsilon > self.epsilon_min:
            self.epsilon *= self.epsilon_decay

    # Not in the post: the rest of the class, the functions and the options. On a first reading,
    # skip to "Make the game" near the end, and come back for sit_exam

    def predict(self, states):
        """Do as model.predict, thousands of times faster: states (n, 4) give values (n, 2).

        It uses self.weights, and knows only a Sequential of Dense layers with a bias and tanh, relu
        or linear. With another model it fails or, if that is subclassed, may be wrong unnoticed:
        then return self.model.predict_on_batch(states), dozens of times slower for one state.
        """
        values = states
        known = {'tanh': np.tanh, 'relu': lambda x: np.maximum(x, 0), 'linear': lambda x: x}
        layers = zip(self.model.layers, self.weights[::2], self.weights[1::2], strict=True)
        for layer, kernel, bias in layers:  # fails? See predict
            values = known[layer.activation.__name__](values @ kernel + bias)  # fails? See predict
        return values

    def load(self, name):
        """Read weights and optimizer from the file `name`, *.weights.h5; explore no more.

        Keras raises an OSError if there is no such file, a ValueError if its layers are of other
        shapes or another number. It does not notice other activations.
        """
        self.model.optimizer.build(self.model.trainable_variables)  # else its state is not read
        self.model.load_weights(name)
        self.model.optimizer.learning_rate = self.learning_rate  # the file brings its own
        self.weights = self.model.get_weights()
        self.epsilon = 0

    def save(self, name):
        """Write weights and optimizer to the file `name`, *.weights.h5 (else a ValueError)."""
        # First into a file of this process's own: if stopped midway, the older one stays whole
        folder, file = os.path.split(name)
        part = os.path.join(folder, f"{os.getpid()}.{file}")
        self.model.save_weights(part)
        os.replace(part, name)


def sit_exam(agent, games):
    """Play new games side by side in `games`, a vector environment of Gym, without exploring.

    Return how many are won, that is, not lost in 500 frames.
    """
    states, _ = games.reset()  # (n, 4) for n games
    lost = truncated = np.zeros(games.num_envs, bool)
    # All begin together, so the first to be truncated shows that 500 frames are over
    while not (np.any(truncated) or np.all(lost)):
        actions = np.argmax(agent.predict(states), axis=1)  # (n,)
        states, _, terminated, truncated, _ = games.step(actions)
        lost = lost | terminated  # a lost game begins anew by itself, but counts as lost
    return np.sum(~lost)


def watch(weights, gif):
    """Play one game with the weights of a file: in a window, or into the file `gif`, if named."""
    if gif:
        from PIL import Image
    else:
        import pygame
        pygame.display.init()
        if pygame.display.get_driver() == "offscreen":  # SDL found none
            raise RuntimeError("there is no screen for a window; --gif FILE needs none")
    env = gym.make('CartPole-v1', render_mode="rgb_array" if gif else "human")
    agent = DQNAgent(env)
    agent.load(weights)
    if gif:
        os.environ["SDL_VIDEODRIVER"] = "dummy"  # draw without a screen, whatever was set
    state, _ = env.reset()
    score, terminated, truncated, images = 0, False, False, []
    while not (terminated or truncated):
        state, _, terminated, truncated, _ = env.step(agent.act(state))
        score += 1
        if gif:  # in 256 colors: 500 images in full color take .4 GB
            image = Image.fromarray(env.render())
            images.append(image.convert("P", dither=Image.Dither.NONE))
    env.close()
    if gif:
        del os.environ["SDL_VIDEODRIVER"]  # a notebook's next --watch needs a screen
        images[0].save(gif, save_all=True, append_images=images[1:], duration=20, loop=0)
    print(f"score: {score}, played by {weights}")


def save_curve(scores, name):
    """Save a picture of the training games' scores, and of the mean of the last 100."""
    from matplotlib.figure import Figure
    axes = Figure(figsize=(8, 4), layout="constrained").subplots()
    axes.plot(scores, "C1.", label="each training game")
    axes.plot([np.mean(scores[max(0, e - 99):e + 1]) for e in range(len(scores))], "C0",
              label="mean of the last 100")
    axes.axhline(475, color="C2", linestyle="--", label="Gym's bar")
    axes.set(xlabel="game", ylabel="score (frames survived)")
    axes.legend()
    axes.figure.savefig(name)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Train a CartPole player, or show the saved one")
    parser.add_argument("--watch", action="store_true", help="show a game of the saved player")
    parser.add_argument("--gif", metavar="FILE.gif", help="save such a game as an animation")
    parser.add_argument("--episodes", type=int, default=1000, help="at most so many games (1000)")
    parser.add_argument("--seed", type=int, default=0, help="each gives another training (0)")
    parser.add_argument("--weights", metavar="NAME", default="save/cartpole-dqn",
                        help="train, or show, the player NAME.weights.h5 (%(default)s). Until the "
                             "exam is passed, a training saves NAME.unsolved.weights.h5")
    args = parser.parse_args()
    name = args.weights.removesuffix(".weights.h5")
    player, unsolved = f"{name}.weights.h5", f"{name}.unsolved.weights.h5"
    if args.gif is not None and not args.gif.endswith(".gif"):
        parser.error("--gif needs a name that ends in .gif")
    keras.config.set_floatx("float32")  # whatever the user's keras.json says
    if args.watch or args.gif:
        try:
            watch(player, args.gif)
        except (OSError, RuntimeError) as error:  # no such file, or no screen
            sys.exit(f"dqn.py: cannot show {player}: {error}".splitlines()[0])
        except ValueError as error:
            sys.exit(f"dqn.py: is {player} of another network? {error}".splitlines()[0])
        sys.exit()
    keras.utils.set_random_seed(args.seed)  # to repeat a training on the same machine
    # Make the game (another one needs more changes: see README.md), and the agent for it. With
    # render_mode="human" a window shows all games, at 50 frames a second
    env = gym.make('CartPole-v1', render_mode=None)  # post: v0; env.render() as a comment
    env.reset(seed=args.seed)  # not in the post, like the next line: to repeat its games
    env.action_space.seed(args.seed)
    agent = DQNAgent(env)
    # Not in the post: 100 games side by side for the exam, a folder for the weights, the scores
    exam = gym.make_vec('CartPole-v1', 100)
    exam.reset(seed=args.seed + 10 ** 6)  # other games than those of the training
    folder = os.path.dirname(name) or "."
    os.makedirs(folder, exist_ok=True)
    tempfile.TemporaryFile(dir=folder).close()  # can it be written to? An error now costs no games
    print(f"the weights are saved in {unsolved}, every tenth game")
    scores, solved = [], False
    # Iterate the game
    for e in range(args.episodes):  # post: episodes
        # A new game starts with the pole nearly upright
        state, _ = env.reset()
        state = np.reshape(state, [1, 4])
        # time_t numbers the frames, from 0. CartPole-v1 ends a game after 500, the post's v0 after
        # 200, so 5,000 is never reached
        for time_t in range(5000):
            # Decide action
            action = agent.act(state)
            # Push the cart, and see what comes of it. terminated: the pole leans too far, or the
            # cart has left the track. truncated: 500 frames are over. post: done, for either
            next_state, reward, terminated, truncated, _ = env.step(action)
            next_state = np.reshape(next_state, [1, 4])
            # Gym gives a 1 for every frame, also the last: make a loss hurt. Time that is up is no
            # loss: there is no -100, and replay adds the value of next_state
            reward = -100 if terminated else reward  # post: if done
            # Keep the frame for replay
            agent.remember(state, action, reward, next_state, terminated)  # post: done
            # Where this frame ended, the next one begins
            state = copy.deepcopy(next_state)
            # Is the game over?
            if terminated or truncated:  # post: if done
                # Say how long it lasted, and leave the inner loop
                scores.append(time_t + 1)  # not in the post; nor are mean, epsilon and flush
                mean = np.mean(scores[-100:])
                print(f"episode: {e}/{args.episodes}, score: {time_t + 1}, "  # post: time_t
                      f"mean of last 100: {mean:.1f}, epsilon: {agent.epsilon:.2f}", flush=True)
                break
        # Not in the post: stop when solved. Gym's bar is a mean of 475 over 100 games (195 in v0).
        # The weights changed during these games, so the present ones must also win an exam, 100 new
        # games of 500 frames without random actions
        exam_due = len(scores) >= 100 and mean >= 475
        if exam_due:
            won = sit_exam(agent, exam)
            print(f"exam: {won} of 100 games won", flush=True)
            solved = won == 100
            if solved:
                break
        # Learn after a lost game, and after a failed exam, else the same weights sit the next one.
        # post: after each game. But replays after a won game often make a good player worse
        if terminated or exam_due:
            # post: once, which learns too little. epsilon is .1 after 460 replays: in the post
            # after 460 games, here after 8 lost ones
            for _ in range(64):
                agent.replay(32)
        # Not in the post: save the weights, every tenth game, in case the training is stopped
        if len(scores) % 10 == 0:
            agent.save(unsolved)
    # Not in the post: save the player and its curve. An unsolved one does not replace a solved one
    file = player if solved else unsolved
    agent.save(file)
    save_curve(scores, file.removesuffix("weights.h5") + "png")
    if not solved:
        sys.exit(f"not solved after {len(scores)} games; its weights are in {unsolved}")
    print(f"solved after {len(scores)} games; the player is in {player}")
