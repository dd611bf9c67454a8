import "./styles/page.css";
import { render } from "preact";
import { apiKey } from "./talk/api";
import { settleAllWhenLeft } from "./state/notices";
import { followAddress, lookAgain } from "./state/place";
import { followTheme, needsOtherPolicy, withOtherPolicy } from "./state/preferences";
import { App } from "./ui/App";

function start(): void {
  const place = document.getElementById("page");
  if (!place) return;
  followTheme();
  settleAllWhenLeft();
  followAddress();
  place.replaceChildren();
  render(<App />, place);
  void lookAgain();
  let key = apiKey.value;
  apiKey.subscribe((now) => {
    if (now !== key) void lookAgain();
    key = now;
  });
}

if (needsOtherPolicy()) withOtherPolicy();
else start();
