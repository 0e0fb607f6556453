export function TasksPage(_: any): any { return null; }
