"""The papers that methods come from, to be cited: the one home of titles and full author lists.

A method's file has the short form ("Feng et al. 2025, arXiv 2510.08696") beside its equations; a
test holds the two together. Presets that stand for a paper of their own cite that one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from rekindle.methods import method_module, section_name
from rekindle.training.recipe import Recipe


class Paper(NamedTuple):
    """A paper on arXiv; the year is that of its first version, authors have given names first."""

    arxiv: str
    year: int
    title: str
    authors: tuple[str, ...]


def _by(names: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in names.split(","))


PAPERS: dict[str, Paper] = {
    "instructgpt": Paper(
        "2203.02155",
        2022,
        "Training language models to follow instructions with human feedback",
        _by(
            "Long Ouyang, Jeff Wu, Xu Jiang, Diogo Almeida, Carroll L. Wainwright, Pamela Mishkin, "
            "Chong Zhang, Sandhini Agarwal, Katarina Slama, Alex Ray, John Schulman, Jacob Hilton, "
            "Fraser Kelton, Luke Miller, Maddie Simens, Amanda Askell, Peter Welinder, "
            "Paul Christiano, Jan Leike, Ryan Lowe"
        ),
    ),
    "grpo": Paper(
        "2402.03300",
        2024,
        "DeepSeekMath: Pushing the Limits of Mathematical Reasoning in Open Language Models",
        _by(
            "Zhihong Shao, Peiyi Wang, Qihao Zhu, Runxin Xu, Junxiao Song, Xiao Bi, Haowei Zhang, "
            "Mingchuan Zhang, Y. K. Li, Y. Wu, Daya Guo"
        ),
    ),
    "dr_grpo": Paper(
        "2503.20783",
        2025,
        "Understanding R1-Zero-Like Training: A Critical Perspective",
        _by(
            "Zichen Liu, Changyu Chen, Wenjun Li, Penghui Qi, Tianyu Pang, Chao Du, Wee Sun Lee, "
            "Min Lin"
        ),
    ),
    "dapo": Paper(
        "2503.14476",
        2025,
        "DAPO: An Open-Source LLM Reinforcement Learning System at Scale",
        _by(
            "Qiying Yu, Zheng Zhang, Ruofei Zhu, Yufeng Yuan, Xiaochen Zuo, Yu Yue, Tiantian Fan, "
            "Gaohong Liu, Lingjun Liu, Xin Liu, Haibin Lin, Zhiqi Lin, Bole Ma, Guangming Sheng, "
            "Yuxuan Tong, Chi Zhang, Mofan Zhang, Wang Zhang, Hang Zhu, Jinhua Zhu, Jiaze Chen, "
            "Jiangjie Chen, Chengyi Wang, Hongli Yu, Weinan Dai, Yuxuan Song, Xiangpeng Wei, "
            "Hao Zhou, Jingjing Liu, Wei-Ying Ma, Ya-Qin Zhang, Lin Yan, Mu Qiao, Yonghui Wu, "
            "Mingxuan Wang"
        ),
    ),
    "rloo": Paper(
        "2402.14740",
        2024,
        "Back to Basics: Revisiting REINFORCE Style Optimization for Learning from Human Feedback "
        "in LLMs",
        _by(
            "Arash Ahmadian, Chris Cremer, Matthias Gallé, Marzieh Fadaee, Julia Kreutzer, "
            "Olivier Pietquin, Ahmet Üstün, Sara Hooker"
        ),
    ),
    "lens": Paper(
        "2510.08696",
        2025,
        "Don't Waste Mistakes: Leveraging Negative RL-Groups via Confidence Reweighting",
        _by("Yunzhen Feng, Parag Jain, Anthony Hartshorn, Yaqi Duan, Julia Kempe"),
    ),
    "hero": Paper(
        "2510.07242",
        2025,
        "Hybrid Reinforcement: When Reward Is Sparse, It's Better to Be Dense",
        _by(
            "Leitian Tao, Ilia Kulikov, Swarnadeep Saha, Tianlu Wang, Jing Xu, Sharon Li, "
            "Jason E Weston, Ping Yu"
        ),
    ),
    "nsr": Paper(
        "2506.01347",
        2025,
        "The Surprising Effectiveness of Negative Reinforcement in LLM Reasoning",
        _by("Xinyu Zhu, Mengzhou Xia, Zhepei Wei, Wei-Lin Chen, Danqi Chen, Yu Meng"),
    ),
    "ngrpo": Paper(
        "2509.18851",
        2025,
        "NGRPO: Negative-enhanced Group Relative Policy Optimization",
        _by(
            "Gongrui Nan, Siye Chen, Jing Huang, Mengyu Lu, Dexun Wang, Chunmei Xie, Weiqi Xiong, "
            "Xianzhou Zeng, Qixuan Zhou, Yadong Li, Xingzhong Xu"
        ),
    ),
    "rl_zvp": Paper(
        "2509.21880",
        2025,
        "No Prompt Left Behind: Exploiting Zero-Variance Prompts in LLM Reinforcement Learning via "
        "Entropy-Guided Advantage Shaping",
        _by("Thanh-Long V. Le, Myeongho Jeon, Kim Vu, Viet Lai, Eunho Yang"),
    ),
    "wmss": Paper(
        "2602.08222",
        2026,
        "Weak-Driven Learning: How Weak Agents make Strong Agents Stronger",
        _by(
            "Zehao Chen, Gongxun Li, Tianxiang Ai, Yifei Li, Zixuan Huang, Wang Zhou, "
            "Fuzhen Zhuang, Xianglong Liu, Jianxin Li, Deqing Wang, Yikun Ban"
        ),
    ),
    "neftune": Paper(
        "2310.05914",
        2023,
        "NEFTune: Noisy Embeddings Improve Instruction Finetuning",
        _by(
            "Neel Jain, Ping-yeh Chiang, Yuxin Wen, John Kirchenbauer, Hong-Min Chu, "
            "Gowthami Somepalli, Brian R. Bartoldson, Bhavya Kailkhura, Avi Schwarzschild, "
            "Aniruddha Saha, Micah Goldblum, Jonas Geiping, Tom Goldstein"
        ),
    ),
    "label_smoothing": Paper(
        "1512.00567",
        2015,
        "Rethinking the Inception Architecture for Computer Vision",
        _by("Christian Szegedy, Vincent Vanhoucke, Sergey Ioffe, Jonathon Shlens, Zbigniew Wojna"),
    ),
    "dpo": Paper(
        "2305.18290",
        2023,
        "Direct Preference Optimization: Your Language Model is Secretly a Reward Model",
        _by(
            "Rafael Rafailov, Archit Sharma, Eric Mitchell, Stefano Ermon, "
            "Christopher D. Manning, Chelsea Finn"
        ),
    ),
    "rpo": Paper(
        "2404.19733",
        2024,
        "Iterative Reasoning Preference Optimization",
        _by(
            "Richard Yuanzhe Pang, Weizhe Yuan, Kyunghyun Cho, He He, Sainbayar Sukhbaatar, "
            "Jason Weston"
        ),
    ),
    "orpo": Paper(
        "2403.07691",
        2024,
        "ORPO: Monolithic Preference Optimization without Reference Model",
        _by("Jiwoo Hong, Noah Lee, James Thorne"),
    ),
    "self_rewarding": Paper(
        "2401.10020",
        2024,
        "Self-Rewarding Language Models",
        _by(
            "Weizhe Yuan, Richard Yuanzhe Pang, Kyunghyun Cho, Xian Li, Sainbayar Sukhbaatar, "
            "Jing Xu, Jason Weston"
        ),
    ),
    "meta_rewarding": Paper(
        "2407.19594",
        2024,
        "Meta-Rewarding Language Models: Self-Improving Alignment with LLM-as-a-Meta-Judge",
        _by(
            "Tianhao Wu, Weizhe Yuan, Olga Golovneva, Jing Xu, Yuandong Tian, Jiantao Jiao, "
            "Jason Weston, Sainbayar Sukhbaatar"
        ),
    ),
    "temporal": Paper(
        "2508.06026",
        2025,
        "Temporal Self-Rewarding Language Models: Decoupling Chosen-Rejected via Past-Future",
        _by(
            "Yidong Wang, Xin Wang, Cunxiang Wang, Junfeng Fang, Qiufeng Wang, Jianing Chu, "
            "Xuran Meng, Shuxun Yang, Libo Qin, Yue Zhang, Wei Ye, Shikun Zhang"
        ),
    ),
    "weak_to_strong": Paper(
        "2407.13647",
        2024,
        "Weak-to-Strong Reasoning",
        _by("Yuqing Yang, Yan Ma, Pengfei Liu"),
    ),
}

# presets with papers of their own; every other method has the paper that its section is named for
_OF_METHOD: dict[str, tuple[str, ...]] = {
    "sft": ("instructgpt",),
    "dr_grpo": ("dr_grpo",),
    "dapo": ("dapo",),
    "rloo": ("rloo",),
    "grpo_mean": ("grpo", "dr_grpo"),
    "grpo_dynamic": ("grpo", "dapo"),
    "sft_neftune": ("neftune",),
    "sft_label_smoothing": ("label_smoothing",),
}
_OF_SECTION = {"blend": "hero"}  # the baselines of HERO's paper have a file of their own


def papers_of(method: str) -> list[str]:
    """The names in `PAPERS` of what a method comes from.

    Raises:
        ConfigError: there is no such method; what exists is listed.
    """
    method_module(method)
    section = section_name(method)
    return list(_OF_METHOD.get(method, (_OF_SECTION.get(section, section),)))


def papers_of_recipe(recipe: Recipe) -> list[str]:
    """The papers of a recipe's method, and of what its settings switch on."""
    section = section_name(recipe.shared.method)
    own = recipe.method.model_dump()
    by_dpo = section in ("dpo", "self_rewarding", "temporal") or own.get("loss") == "dpo"
    dpo: Mapping[str, float] = own if section == "dpo" else own.get("dpo", {})
    switched_on = {
        "dpo": by_dpo,
        "rpo": by_dpo and dpo["nll"] > 0,
        "orpo": own.get("loss") == "orpo",
        "meta_rewarding": own.get("ties") == "shortest",
        "dapo": own.get("extra_rollouts", 0) > 0,
        "neftune": own.get("neftune_noise_alpha", 0) > 0,
        "label_smoothing": own.get("label_smoothing_factor", 0) > 0,
    }
    used = [name for name, on in switched_on.items() if on]
    return list(dict.fromkeys([*papers_of(recipe.shared.method), *used]))
