//! Words of names: which tell nothing of what is drawn, which say the same, which belong together.

/// How a thing is drawn, not what it is.
pub(super) const STYLE: &str = "\
    outline outlined filled fill line lines bold duotone solid regular light thin twotone two tone sharp \
    rounded round linear broken bulk alt variant square circle o s r l f ios md straight baseline duo color \
    simple";

/// Trade marks.
pub(super) const BRANDS: &str = "\
    android apple behance bitcoin bluetooth discord dribbble facebook figma github gitlab google instagram \
    linkedin paypal pinterest reddit slack snapchat telegram tiktok twitter whatsapp youtube windows airplay \
    git-branch git-commit git-merge command";

/// No thing that is drawn: the same word for unlike drawings.
pub(super) const VAGUE: &str = "\
    add at text stop time actions dash media data app note-edit heading italic strikethrough subscript \
    superscript underline bold x label language quote more code asterisk slash copyright hash hashtag \
    paragraph euro dollar percent question exclamation currency infinity equal divide";

/// A class and other words for it.
pub(super) const SYNONYMS: &[(&str, &str)] = &[
    ("airplane", "plane aeroplane"),
    ("bell", "notification notifications alarm-bell"),
    ("trash", "bin delete garbage trashcan trash-can rubbish"),
    ("user", "person profile account"),
    ("users", "people group persons"),
    ("bulb", "lightbulb light-bulb idea"),
    ("globe", "earth world"),
    ("home", "house"),
    ("refresh", "reload sync repeat loop"),
    ("gear", "cog settings setting"),
    ("mail", "envelope email message-mail letter"),
    ("film", "movie"),
    ("search", "magnify magnifier magnifying-glass"),
    ("image", "picture photo"),
    ("cart", "shopping-cart"),
    ("bag", "shopping-bag"),
    ("microphone", "mic"),
    ("eye", "view visibility"),
    ("eye-off", "eye-closed eye-slash visibility-off eye-crossed"),
    ("heart", "favorite love"),
    ("map-pin", "pin location place marker location-pin"),
    ("pushpin", "thumbtack"),
    ("calendar", "date"),
    ("clock", "time-clock"),
    ("chat", "message comment speech"),
    ("bolt", "flash lightning thunder"),
    ("coins", "coin money-coins"),
    ("cross", "close cancel times"),
    ("check", "tick checkmark done"),
    ("pencil", "edit pen"),
    ("log-out", "logout sign-out"),
    ("log-in", "login sign-in"),
    ("gamepad", "game-controller controller"),
    ("hard-drive", "hdd"),
    ("chart-bar", "bar-chart"),
    ("chart-pie", "pie-chart"),
    ("chart", "graph"),
    ("glasses", "eyeglasses spectacles"),
    ("video", "video-camera camera-video"),
    ("cube", "box-cube"),
    ("box", "package parcel"),
    ("store", "shop storefront"),
    ("boat", "ship"),
    ("volume-off", "volume-mute volume-x mute"),
    ("thumbs-up", "like thumb-up"),
    ("thumbs-down", "dislike thumb-down"),
    ("phone", "call telephone"),
    ("mobile", "smartphone cellphone"),
    ("lock", "padlock lock-closed"),
    ("unlock", "lock-open"),
    ("flame", "fire"),
    ("bank", "museum"),
    ("sun", "brightness"),
    ("cloud", "cloudy"),
    ("scissors", "cut"),
    ("attachment", "paperclip"),
    ("list", "menu-list"),
    ("menu", "hamburger"),
    ("receipt", "bill"),
    ("filter", "funnel"),
    ("layers", "layer stack"),
    ("fullscreen", "maximize"),
    ("minimize", "collapse"),
    ("apps", "grid"),
    ("dashboard", "speedometer gauge"),
    ("link", "chain"),
    ("unlink", "link-off link-slash"),
    ("external-link", "external"),
    ("block", "ban forbidden"),
    ("droplet", "drop water water-drop"),
    ("disc", "cd record"),
    ("rewind", "fast-backward"),
    ("duplicate", "copy"),
    ("undo", "reply-undo"),
    ("send", "paper-plane"),
    ("cpu", "chip processor"),
    ("beaker", "flask test-tube"),
    ("medal", "badge award"),
    ("cup", "trophy"),
    ("bed", "hotel"),
    ("computer", "desktop monitor"),
    ("trending-up", "trend-up"),
    ("trending-down", "trend-down"),
    ("wheelchair", "accessibility"),
    ("airplaneticket", "boarding-pass"),
    ("volume", "sound"),
    ("volume-high", "volume-up"),
    ("textsize", "font-size"),
    ("tools", "tool"),
    ("printer", "print"),
    ("newspaper", "news"),
    ("speaker", "loudspeaker"),
    ("palette", "color-palette"),
    ("shuffle", "random"),
    ("tv", "television"),
    ("shapes", "shape"),
    ("alarm", "alarm-clock"),
    ("alert", "warning"),
    ("info", "information"),
    ("sort", "sorting"),
    ("folder-plus", "folder-add"),
    ("user-plus", "user-add"),
    ("file", "document"),
    ("forward", "fast-forward"),
    ("album", "music-album"),
    ("credit-card", "payment-card"),
    ("wallet", "purse"),
    ("headphones", "headphone headset"),
];

/// Words that tell nothing of what is drawn: two classes that share only these are no family.
pub(super) const LOOSE: &str = "\
    up down left right top bottom in out on off open full low empty half plus minus add remove check check- \
    mark x center justify corner fast skip code text search music high hard";

/// Unlike words for like drawings, which must not be divided either.
pub(super) const KIN: &[&str] = &[
    "arrow chevron caret triangle play corner",
    "plus minus",
    "volume speaker mute",
    "user users male female",
    "disc album",
    "clock history alarm timer stopwatch watch",
    "info alert help question",
    "mail send inbox",
    "image library",
    "card id credit",
    "headphones headset music",
    "building bank hospital store home",
    "apps table layout columns window",
];

/// Emoji whose name has one of these words are left out: variants of others, flags, hours, and written signs.
pub(super) const EMOJI_LEFT_OUT: &str = "\
    skin tone flag flags keycap man woman men women oclock thirty button japanese squared regional symbol letter";

/// As [`LOOSE`], of emoji.
pub(super) const EMOJI_LOOSE: &str = "\
    and at in of on the with without no not a face hand hands person people red orange yellow green blue purple brown \
    black white dark light medium small large big left right up down open closed new old right-facing sign mark heavy";
