// The tools of the deformation page.
import { about, type Tool, VIEW } from "../ui/tools";
import type { GizmoMode } from "./gizmo";
import { ICONS } from "./icons";
import type { DeformPage, Mode } from "./page";

type Made = Omit<Tool, "topic">;
type Icon = keyof typeof ICONS;

/** All of them, in the order of bars and help. */
export function deformTools(page: DeformPage): Tool[] {
  return [
    ...about("Place", placing(page)),
    ...about("Handle", moving(page)),
    ...about("Edit", editing(page)),
    ...about("Files", files(page)),
    ...about(VIEW, [{ label: "Colours of features", key: "c", run: () => page.switchPaint() }]),
  ];
}

function placing(page: DeformPage): Made[] {
  const tool = (label: string, key: string, mode: Mode, note: string): Made => ({
    label, key, note, icon: ICONS[mode], group: "left",
    pressed: () => page.mode === mode, run: () => page.setMode(mode),
  });
  return [
    tool("Handle", "1", "handle", "click what should move"),
    tool("Anchor", "2", "anchor", "click what should stay"),
    tool("Brush", "3", "brush", "paint a region for either"),
    tool("Lasso", "4", "lasso", "draw around a region for either"),
    { label: "Smaller brush", key: "[", run: () => page.region.resize(1 / 1.25) },
    { label: "Larger brush", key: "]", run: () => page.region.resize(1.25) },
  ];
}

function moving(page: DeformPage): Made[] {
  const tool = (label: string, key: string, icon: Icon, mode: GizmoMode): Made => ({
    label, key, icon: ICONS[icon], group: "left",
    pressed: () => page.gizmo.mode === mode, run: () => page.setGizmo(mode),
  });
  return [
    tool("Move", "t", "move", "translate"),
    tool("Turn", "r", "turn", "rotate"),
    tool("Size", "e", "size", "scale"),
    { ...tool("Pivot", "p", "pivot", "pivot"), note: "what a handle turns and grows about" },
  ];
}

function editing(page: DeformPage): Made[] {
  const { controller } = page.kind;
  return [
    {
      label: "Undo", key: "ctrl+z", icon: ICONS.undo,
      enabled: () => controller.canUndo, run: () => controller.undo(),
    },
    {
      label: "Redo", key: "ctrl+y", icon: ICONS.redo,
      enabled: () => controller.canRedo, run: () => controller.redo(),
    },
    { label: "Mirror the edit", key: "m", run: () => page.switchSymmetry() },
    { label: "Select nothing", key: "Escape", run: () => page.escape() },
    { label: "Remove what is selected", key: "Delete", run: () => controller.removeSelected() },
    { label: "Remove all", key: "ctrl+Delete", run: () => controller.reset() },
  ];
}

function files(page: DeformPage): Made[] {
  const exporting: Made = {
    label: "Export", key: "x", icon: ICONS.export, awaits: "once the features are there",
    enabled: () => page.kind.controller.ready, run: () => page.dialog.open(),
  };
  return [
    { label: "Open a session", key: "ctrl+o", icon: ICONS.open, run: () => page.choose() },
    { label: "Save the session", key: "ctrl+s", icon: ICONS.save, run: () => page.save() },
    ...(page.kind.backend.complete ? [exporting] : []),
  ];
}
