"""What each finding of the doctor is called in words, English and Chinese: what it means, and what to do about it.

Fields in braces are those of the check's `measured`. No judgement: which finding it is, doctor.py decides.
"""

from __future__ import annotations

from dataclasses import dataclass

from edge.provisioning.doctor import Check, Name


@dataclass(frozen=True, slots=True)
class Words:
    en: str
    zh: str


@dataclass(frozen=True, slots=True)
class Told:
    """`todo` is None where there is nothing to do."""

    title: Words
    says: Words
    todo: Words | None


TITLES = {
    Name.SENSOR: Words("Camera: sensor", "摄像头：传感器"),
    Name.FRAMES: Words("Camera: frame rate", "摄像头：帧率"),
    Name.EXPOSURE: Words("Camera: exposure", "摄像头：曝光"),
    Name.FOCUS: Words("Camera: focus", "摄像头：对焦"),
    Name.LIGHT: Words("Light at the face", "脸部位置的光线"),
    Name.SELF_MATCH: Words("Reference portrait", "参考人像比对"),
    Name.MODELS: Words("Models", "识别模型"),
    Name.UPDATES: Words("Updates", "更新"),
    Name.KEYS: Words("Keys", "密钥"),
    Name.CERTIFICATE: Words("Certificate", "证书"),
    Name.CLOCK: Words("Clock", "时钟"),
    Name.DISK: Words("Disk space", "磁盘空间"),
    Name.WEAR: Words("Disk wear", "磁盘磨损"),
    Name.JOURNAL: Words("Journal", "结果日志"),
    Name.TEMPERATURE: Words("Temperature", "温度"),
    Name.POWER: Words("Power supply", "电源"),
    Name.BROKER: Words("Carrier, round trip", "运营商往返测试"),
}

_Entry = tuple[str, str] | tuple[str, str, str, str]  # says en, zh; then, where there is something to do, todo en, zh

# Findings that any check may have.
_ANY: dict[str, _Entry] = {
    "fault": (
        "{detail}",
        "故障：{detail}",
        "Follow the message; if it stays, exchange the terminal.",
        "按提示处理；若仍然存在，请更换终端。",
    ),
    "too-slow": (
        "No answer within {limit_s:g} s.",
        "{limit_s:g} 秒内没有结果。",
        "Run the check again. If it stays, restart the terminal.",
        "请再检查一次；若仍然如此，请重启终端。",
    ),
    "needs-camera": ("Needs a working camera.", "需要摄像头正常工作。", "Mend the camera first.", "请先修复摄像头。"),
    "video-file": ("The source is a video file.", "信号源是视频文件。"),
    "no-models": ("Needs working models.", "需要识别模型正常。", "Mend the models first.", "请先修复识别模型。"),
    "not-examined": (
        "The terminal stopped before this was checked.",
        "终端在检查完成前停止了。",
        "Run the check again.",
        "请再检查一次。",
    ),
}

_WORDS: dict[Name, dict[str, _Entry]] = {
    Name.SENSOR: {
        "good": ("{model}", "{model}"),
        "silent": ("This camera does not say which sensor it has.", "该摄像头不提供传感器信息。"),
        "other": (
            "The sensor is {model}; {expected} should be there.",
            "传感器是 {model}，应为 {expected}。",
            "Was the camera exchanged? Fit the right one, or set camera.sensor in terminal.toml.",
            "摄像头是否被更换？请装回正确型号，或修改 terminal.toml 中的 camera.sensor。",
        ),
        "virtual": (
            "{model} is a virtual camera: a program makes its pictures.",
            "{model} 是虚拟摄像头：画面由软件生成。",
            "Do not use this terminal. Name the real camera in terminal.toml and report it.",
            "请停用本终端，在 terminal.toml 中改用真实摄像头，并上报。",
        ),
        "not-real": (
            "{model}: no real camera.",
            "{model}：不是真实摄像头。",
            "For development only. Set camera.source in terminal.toml to the real camera.",
            "仅供开发使用。请在 terminal.toml 中把 camera.source 设为真实摄像头。",
        ),
    },
    Name.FRAMES: {
        "good": (
            "{fps} frames a second, longest gap {longest_gap_ms} ms.",
            "每秒 {fps} 帧，最长间隔 {longest_gap_ms} 毫秒。",
        ),
        "slow": (
            "{fps} frames a second of {asked_fps}, longest gap {longest_gap_ms} ms.",
            "每秒 {fps} 帧（应为 {asked_fps}），最长间隔 {longest_gap_ms} 毫秒。",
            "Check cable and temperature; a USB camera needs a port of its own. In the dark, give more light.",
            "请检查连接线和温度；USB 摄像头请单独使用一个接口。光线暗时请增加照明。",
        ),
        "time-goes-back": (
            "The camera's time stamps go back.",
            "摄像头时间戳倒退。",
            "Restart the terminal. If it stays, exchange the camera.",
            "请重启终端；若仍然如此，请更换摄像头。",
        ),
        "no-camera": (
            "No picture: {detail}",
            "没有画面：{detail}",
            "Switch off, check the camera's cable at both ends, switch on.",
            "请断电，检查摄像头排线两端，再通电。",
        ),
    },
    Name.EXPOSURE: {
        "good": ("The sensor follows.", "传感器响应正常。"),
        "no-control": ("This camera's exposure is not controlled.", "该摄像头不支持曝光控制。"),
        "not-obeyed": (
            "The sensor does not do what is asked.",
            "传感器没有按要求改变曝光。",
            "Is there enough light? If so, restart the terminal; if it stays, exchange the camera.",
            "请确认光线充足；若充足，请重启终端；仍无效则更换摄像头。",
        ),
        "picture-does-not-follow": (
            "The sensor reports the step, but the picture does not change.",
            "传感器报告曝光已改变，但画面没有变化。",
            "Is the lens covered, or the room lit by a flickering lamp? If not, report it: pictures may be injected.",
            "镜头是否被遮挡，或灯光是否闪烁？若都不是，请上报：画面可能被注入。",
        ),
    },
    Name.FOCUS: {
        "good": ("Figure {figure} of 100.", "数值 {figure}（满分 100）。"),
        "soft": (
            "Figure {figure} of 100: a little soft.",
            "数值 {figure}（满分 100）：略模糊。",
            "Clean the lens; turn its ring until the live figure is highest.",
            "请清洁镜头，转动对焦环直到实时数值最高。",
        ),
        "blurred": (
            "Figure {figure} of 100: blurred.",
            "数值 {figure}（满分 100）：模糊。",
            "Take off the protective film, clean the lens, turn its ring until the live figure is highest.",
            "请撕去保护膜，清洁镜头，转动对焦环直到实时数值最高。",
        ),
        "no-subject": (
            "Nobody and no reference target at the face position.",
            "脸部位置没有人，也没有参考图。",
            "Hold the reference target to the camera, or sit in front of it, and run it again.",
            "请把参考图举到镜头前，或坐到镜头前，再检查一次。",
        ),
        "dark": (
            "Too dark to judge.",
            "光线太暗，无法判断。",
            "Give more light, then run it again.",
            "请增加照明后再检查。",
        ),
    },
    Name.LIGHT: {
        "good": ("Enough light.", "光线充足。"),
        "dark": (
            "Too dark.",
            "光线太暗。",
            "Is the lens covered? Switch on the light over the counter, or turn the terminal to it.",
            "镜头是否被遮挡？请打开柜台上方的灯，或将终端转向光源。",
        ),
        "little": (
            "Little light: the sensor amplifies {gain} times.",
            "光线偏暗：传感器放大 {gain} 倍。",
            "Put a lamp in front of the customer.",
            "请在顾客前方增加一盏灯。",
        ),
        "bright": (
            "Too bright.",
            "光线太亮。",
            "Turn the terminal away from the window or lamp.",
            "请让终端避开窗户或灯。",
        ),
        "backlit": (
            "Strong light behind the customer.",
            "顾客背后光线太强。",
            "Turn the terminal so that no window or lamp is behind the customer.",
            "请转动终端，使顾客背后没有窗户或灯。",
        ),
        "side": (
            "The light comes from one side.",
            "光线来自一侧。",
            "Move the lamp or the terminal so that the light comes from the front.",
            "请移动灯或终端，使光线来自正前方。",
        ),
    },
    Name.SELF_MATCH: {
        "matches": ("The reference portrait is recognised.", "参考人像识别成功。"),
        "absent": (
            "No reference target is held to the camera.",
            "镜头前没有参考图。",
            "Print it (vouch doctor --target FILE.pdf), hold it at 40 cm and run it again.",
            "请打印参考图（vouch doctor --target FILE.pdf），举在 40 厘米处再检查。",
        ),
        "no-face": (
            "The target's mark is read, but no face on it.",
            "读到了参考图的标记，但没有找到人像。",
            "Hold it flat, wholly in the picture, without glare.",
            "请放平、完整入镜、避免反光。",
        ),
        "differs": (
            "The portrait on the target is not recognised.",
            "参考图上的人像未能识别。",
            "Hold it flat and without glare. If it stays, install the models again.",
            "请放平、避免反光；若仍然如此，请重新安装识别模型。",
        ),
    },
    Name.MODELS: {
        "good": ("{pack} is whole.", "{pack} 完整。"),
        "restart": (
            "{pack} is whole, but the terminal still works with another one.",
            "{pack} 完整，但终端仍在使用另一个版本。",
            "Restart the terminal.",
            "请重启终端。",
        ),
    },
    Name.UPDATES: {
        "good": ("Release {release} is in force.", "已启用版本 {release}。"),
        "none": ("This carrier offers no updates.", "该运营商未提供更新。"),
        "on-trial": (
            "Release {release} is in force, a newer pack is on trial.",
            "已启用版本 {release}，新的识别模型正在试用。",
        ),
        "refused": (
            "The last update was refused: {why}",
            "上次更新被拒绝：{why}",
            "Tell the carrier; the models in force go on working.",
            "请告知运营商；现用的识别模型继续工作。",
        ),
        "expired": (
            "The carrier's signatures for updates have run out; release {release} goes on working.",
            "运营商的更新签名已过期；版本 {release} 继续工作。",
            "Check the clock. If it is right, the carrier must sign anew.",
            "请检查时钟；若时钟正确，需由运营商重新签名。",
        ),
        "not-fetched": (
            "No update could be fetched: {why}",
            "无法获取更新：{why}",
            "Check the network, or bring updates on a USB stick.",
            "请检查网络，或用 U 盘安装更新。",
        ),
    },
    Name.KEYS: {
        "good": (
            "Result key in hardware; {carrier_keys} carrier key(s).",
            "结果密钥在硬件中；运营商公钥 {carrier_keys} 个。",
        ),
        "software": (
            "The result key is a file; {carrier_keys} carrier key(s).",
            "结果密钥是文件；运营商公钥 {carrier_keys} 个。",
            "Every result says so. Use a terminal with a TPM where the carrier asks for one.",
            "每个结果都会注明。若运营商要求，请使用带 TPM 的终端。",
        ),
    },
    Name.CERTIFICATE: {
        "good": (
            "{days_left} days left; the carrier's CA {ca_days_left}.",
            "剩余 {days_left} 天；运营商 CA 剩余 {ca_days_left} 天。",
        ),
        "soon": (
            "{days_left} days left; the carrier's CA {ca_days_left}.",
            "剩余 {days_left} 天；运营商 CA 剩余 {ca_days_left} 天。",
            "It renews itself while the terminal is online: check the link.",
            "联网时会自动更新：请检查网络。",
        ),
        "expired": (
            "Expired: {days_left} days left; the carrier's CA {ca_days_left}.",
            "已过期：剩余 {days_left} 天；运营商 CA 剩余 {ca_days_left} 天。",
            "First check the clock. If it is right, ask the carrier for a new certificate.",
            "请先检查时钟；若时钟正确，请向运营商申请新证书。",
        ),
        "early": (
            "Not yet valid: it begins in {days_early} days by this terminal's clock.",
            "尚未生效：按本终端时钟，{days_early} 天后才生效。",
            "The clock is slow: connect the network and wait a minute, or set it by hand.",
            "本机时钟偏慢：请连接网络并等待一分钟，或手动校准。",
        ),
        "unknown": (
            "The uplink has not told.",
            "联网进程未提供。",
            "Is vouch-uplink running? Look with: systemctl status vouch-uplink",
            "vouch-uplink 是否在运行？请查看：systemctl status vouch-uplink",
        ),
    },
    Name.CLOCK: {
        "good": ("Set from the network.", "已与网络同步。"),
        "agrees": (
            "Set from the network; {offset_s} s from the carrier's.",
            "已与网络同步；与运营商相差 {offset_s} 秒。",
        ),
        "unsynchronised": (
            "Not set from the network since the start.",
            "启动后尚未与网络同步。",
            "Connect the network and wait a minute.",
            "请连接网络并等待一分钟。",
        ),
        "off": (
            "{offset_s} s from the carrier's clock.",
            "与运营商时钟相差 {offset_s} 秒。",
            "Wait until the clock is set from the network.",
            "请等待时钟与网络同步。",
        ),
        "wrong": (
            "{offset_s} s from the carrier's clock: challenges will be refused.",
            "与运营商时钟相差 {offset_s} 秒：验证请求将被拒绝。",
            "Check that the network lets NTP through (UDP 123); look with: timedatectl",
            "请确认网络允许 NTP（UDP 123）；可用 timedatectl 查看。",
        ),
        "implausible": (
            "The date cannot be right.",
            "日期不正确。",
            "Connect the network; check that it lets NTP through (UDP 123). Old terminal: change the clock's battery.",
            "请连接网络并确认允许 NTP（UDP 123）；旧终端请更换时钟电池。",
        ),
    },
    Name.DISK: {
        "good": (
            "{free_mib} of {total_mib} MiB free; journal {journal_kib} KiB.",
            "剩余 {free_mib} / {total_mib} MiB；日志 {journal_kib} KiB。",
        ),
        "low": (
            "Only {free_mib} of {total_mib} MiB free.",
            "仅剩 {free_mib} / {total_mib} MiB。",
            "Remove what is not the terminal's; look with: du -xh / | sort -h | tail",
            "请删除无关文件；可用 du -xh / | sort -h | tail 查看。",
        ),
        "full": (
            "Full: {free_mib} of {total_mib} MiB free. No session starts.",
            "已满：剩余 {free_mib} / {total_mib} MiB。无法开始核验。",
            "Free some space now; never delete anything in the state folder.",
            "请立即腾出空间；切勿删除状态文件夹中的任何文件。",
        ),
        "read-only": (
            "The disk is read-only. No session starts.",
            "磁盘只读。无法开始核验。",
            "Restart. If it stays, the card or eMMC is at its end: exchange the terminal.",
            "请重启；若仍然如此，存储卡或 eMMC 已损坏，请更换终端。",
        ),
    },
    Name.WEAR: {
        "good": (
            "{medium} {name}: up to {worn_percent} % of its life used.",
            "{medium} {name}：最多已用寿命 {worn_percent} %。",
        ),
        "silent": ("{medium}: it does not report wear.", "{medium}：不提供磨损信息。"),
        "worn": (
            "{medium} {name}: {worn_percent} % of its life used.",
            "{medium} {name}：已用寿命 {worn_percent} %。",
            "Plan an exchange.",
            "请安排更换。",
        ),
        "worn-out": (
            "{medium} {name}: at the end of its life.",
            "{medium} {name}：寿命已尽。",
            "Exchange the terminal; let it send its results first.",
            "请更换终端；更换前让它先发完结果。",
        ),
    },
    Name.JOURNAL: {
        "good": (
            "Chain of {results} results holds; {waiting} wait for a receipt.",
            "{results} 条结果的链完整；{waiting} 条等待回执。",
        ),
        "waiting": (
            "Chain of {results} results holds, but {waiting} wait for a receipt.",
            "{results} 条结果的链完整，但 {waiting} 条等待回执。",
            "Bring the terminal online and look at the round trip.",
            "请让终端联网，并查看往返测试。",
        ),
        "full": (
            "Full: {waiting} results wait for a receipt. No session starts.",
            "已满：{waiting} 条结果等待回执。无法开始核验。",
            "Bring the terminal online.",
            "请让终端联网。",
        ),
    },
    Name.TEMPERATURE: {
        "good": ("{temperature_c} °C.", "{temperature_c} °C。"),
        "silent": ("This board does not report it.", "该主板不提供。"),
        "warm": (
            "{temperature_c} °C: warm.",
            "{temperature_c} °C：偏热。",
            "Keep its openings free; no sun, no heater.",
            "请保持散热孔通畅；避免阳光和热源。",
        ),
        "hot": (
            "{temperature_c} °C: too hot, the clock is slowed down.",
            "{temperature_c} °C：过热，已降频。",
            "Take it out of the sun; clear its openings; check the heat sink.",
            "请避开阳光，清理散热孔，检查散热片。",
        ),
        "throttled": (
            "{temperature_c} °C now; it was slowed down since the start.",
            "当前 {temperature_c} °C；启动后曾经降频。",
            "Keep its openings free; check the power supply.",
            "请保持散热孔通畅，并检查电源。",
        ),
    },
    Name.POWER: {
        "good": ("No under-voltage since the start.", "启动后没有欠压。"),
        "silent": ("This board does not report it.", "该主板不提供。"),
        "low-now": (
            "Under-voltage now.",
            "当前欠压。",
            "Use the power supply that came with it, plugged straight into the wall.",
            "请使用原装电源，直接插墙上插座。",
        ),
        "was-low": (
            "There was under-voltage since the start.",
            "启动后曾经欠压。",
            "Use the power supply that came with it; unplug USB devices that do not belong.",
            "请使用原装电源；拔掉无关的 USB 设备。",
        ),
    },
    Name.BROKER: {
        "received": (
            "A test result went up and the carrier's signed receipt came back in {took_ms} ms.",
            "测试结果已上传，{took_ms} 毫秒后收到运营商的签名回执。",
        ),
        "queued": (
            "{waiting} older results go up first; they move.",
            "还有 {waiting} 条较早的结果在上传，正在进行。",
            "Wait some minutes and run it again.",
            "请等待几分钟后再检查。",
        ),
        "refused-by-carrier": (
            "The carrier took the test result and says that something is wrong with it.",
            "运营商收到测试结果，但认为有问题。",
            "Call the carrier and name the counter {counter}.",
            "请致电运营商，并告知编号 {counter}。",
        ),
        "no-receipt": (
            "The test result went up, but no receipt came. {detail}",
            "测试结果已上传，但没有收到回执。{detail}",
            "The line works; the carrier does not answer. Try again, then call the carrier.",
            "线路正常，但运营商没有应答。请重试，然后致电运营商。",
        ),
        "no-uplink": (
            "The uplink process is not there.",
            "联网进程没有运行。",
            "systemctl restart vouch-uplink; then run it again.",
            "请执行 systemctl restart vouch-uplink，然后再检查。",
        ),
        "link-down": (
            "No link to the carrier's broker. {detail}",
            "无法连接运营商服务器。{detail}",
            "Check the network cable or Wi-Fi, and that port 8883 is let through.",
            "请检查网线或 Wi-Fi，并确认允许 8883 端口。",
        ),
        "link-refused": (
            "The carrier's broker refuses the terminal. {detail}",
            "运营商服务器拒绝了终端。{detail}",
            "Look at certificate and clock above; if both are right, call the carrier.",
            "请查看上面的证书和时钟；若都正确，请致电运营商。",
        ),
        "taken-over": (
            "Another device uses this terminal's identity.",
            "另一台设备正在使用本终端的身份。",
            "Report it to the carrier at once: the terminal may have been copied.",
            "请立即上报运营商：终端可能被复制。",
        ),
        "not-stored": (
            "The test result could not be signed or stored. {detail}",
            "测试结果无法签名或保存。{detail}",
            "Look at keys, disk and journal above.",
            "请查看上面的密钥、磁盘和日志。",
        ),
    },
}


def words_of(check: Check) -> Told:
    """Title, meaning and what to do, filled with what was measured. KeyError for a finding without words."""
    entry = _WORDS[check.name].get(check.finding) or _ANY[check.finding]
    fields = {name: "–" if value is None else value for name, value in check.measured.items()}
    filled = [part.format_map(fields).strip() for part in entry]
    todo = Words(filled[2], filled[3]) if len(filled) == 4 else None
    return Told(TITLES[check.name], Words(filled[0], filled[1]), todo)
