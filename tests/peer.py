"""Stable-Baselines3's DQN with the CartPole settings of its zoo, for tests/benchmark.py.

    python tests/peer.py SEED

Trains until 20 games without exploring last 5,000 frames each, which is looked at every 1,000
frames. Prints a line of JSON: the frames, and the seconds since the process began, without those
of the looking.
"""
import json
import sys
import time

BEGAN = time.time()
import gymnasium as gym  # noqa: E402  after the clock has started
import numpy as np  # noqa: E402
import torch  # noqa: E402
from stable_baselines3 import DQN  # noqa: E402
from stable_baselines3.common.callbacks import BaseCallback  # noqa: E402


class Look(BaseCallback):
    """Stop the training when the network passes."""
    def __init__(self):
        super().__init__()
        self.spent = 0.0
        self.envs = gym.make_vec("CartPole-v1", 20, max_episode_steps=5000)
        self.envs.reset(seed=5)

    def _on_step(self):
        passed = False
        if self.num_timesteps % 1000 == 0:
            began = time.time()
            passed = self.twenty_games() == 5000
            self.spent += time.time() - began
        return not passed

    def twenty_games(self):
        """Frames until the first of 20 games without exploring ends."""
        weights = [each.detach().numpy().T for each in self.model.q_net.parameters()]
        state, _ = self.envs.reset()
        for frame in range(5000):
            hidden = state
            for kernel, bias in zip(weights[:-2:2], weights[1:-2:2]):
                hidden = np.maximum(hidden @ kernel + bias, 0)
            action = np.argmax(hidden @ weights[-2] + weights[-1], axis=1)
            state, _, terminated, truncated, _ = self.envs.step(action)
            if np.any(terminated | truncated):
                return frame + 1


if __name__ == "__main__":
    torch.set_num_threads(1)
    look = Look()
    # The zoo lets epsilon come down over a share of .16 of its 50,000 frames: .04 of 200,000
    model = DQN("MlpPolicy", "CartPole-v1", learning_rate=2.3e-3, batch_size=64,
                buffer_size=100000, learning_starts=1000, gamma=0.99, target_update_interval=10,
                train_freq=256, gradient_steps=128, exploration_fraction=0.04,
                exploration_final_eps=0.04, policy_kwargs=dict(net_arch=[256, 256]),
                seed=int(sys.argv[1]), device="cpu")
    model.learn(200_000, callback=look)
    print(json.dumps(dict(seconds=time.time() - BEGAN - look.spent, frames=model.num_timesteps)))
